"""The seed's cleaning in PySpark, made to survive its own data, over archive objects."""
from pyspark.sql import DataFrame, SparkSession, functions as F
from pyspark.sql.types import IntegerType, StringType, StructField, StructType

text = ["category", "unique_id", "title", "description", "follower_count", "tag_list", "is_image_or_video", "image_src",
        "save_location", "received_at"]
schema = StructType([StructField(name, StringType()) for name in text]
                    + [StructField(name, IntegerType()) for name in ("index", "downloaded")])

PLACEHOLDERS = {
    "follower_count": ["User Info Error"],
    "title": ["No Title Data Available"],
    "description": ["No description available", "No description available Story format", "Untitled"],
    "image_src": ["Image src error."],
    "tag_list": ["N,o, ,T,a,g,s, ,A,v,a,i,l,a,b,l,e"],
}
ZEROS = {"k": 3, "M": 6, "B": 9}


def cleaned_pins(spark: SparkSession, folder: str) -> DataFrame:
    rows = spark.read.schema(schema).json(f"{folder}/pins/*/*/*.ndjson.gz")
    for field, texts in PLACEHOLDERS.items():
        rows = rows.withColumn(field, F.when(F.col(field).isin(texts), None).otherwise(F.col(field)))
    count = F.col("follower_count")
    for letter, zeros in ZEROS.items():
        count = F.regexp_replace(count, letter, "0" * zeros)
    rows = (rows.withColumn("follower_count", count.cast("bigint"))
            .withColumn("save_location", F.regexp_replace("save_location", "^Local save in ", ""))
            .withColumn("tag_list", F.split("tag_list", ", *"))
            .withColumnRenamed("index", "index_no"))
    required = ["category", "title", "description", "follower_count", "tag_list", "is_image_or_video", "image_src",
                "save_location"]
    return rows.withColumn("is_error", F.greatest(*[F.col(name).isNull() for name in required]))
