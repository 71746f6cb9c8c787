"""Archive objects, cleaned, into Cassandra by Spark's connector. One line of JSON in ({"keyspace", "options"}), one out, as often as asked."""
import glob
import json
import sys
import time

from pyspark.sql import SparkSession, functions as F

from spark_pins import cleaned_pins

folder, jars, host, port = sys.argv[1:5]
started = time.perf_counter()
spark = (SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
         .config("spark.driver.memory", "2g").config("spark.jars", ",".join(glob.glob(f"{jars}/*.jar")))
         .config("spark.cassandra.connection.host", host).config("spark.cassandra.connection.port", port).getOrCreate())
spark.sparkContext.setLogLevel("ERROR")
print(json.dumps({"start": time.perf_counter() - started}), flush=True)


def rows():
    """The columns of userposts. A line does not tell its offset: a number of the same type stands for it."""
    at = F.col("received_at").cast("timestamp")
    micros = F.unix_micros(at)
    optional = ["category", "title", "description", "follower_count", "tag_list", "is_image_or_video", "image_src",
                "save_location"]
    missing = F.array(*[F.when(F.col(name).isNull(), F.lit(name)) for name in optional])
    return (cleaned_pins(spark, folder)
            .withColumn("received_at", at).withColumn("received_at_micros", micros)
            .withColumn("poster_name", F.lit(None).cast("string"))
            .withColumn("error_fields", F.array_compact(missing))
            .withColumn("write_ts", micros).withColumn("timestamp", micros)
            .withColumn("log_partition", F.lit(0)).withColumn("log_offset", F.monotonically_increasing_id())
            .withColumn("generation", F.lit(0)))


for line in sys.stdin:
    asked = json.loads(line)
    at = time.perf_counter()
    (rows().write.format("org.apache.spark.sql.cassandra").mode("append")
     .options(keyspace=asked["keyspace"], table="userposts", writetime="timestamp", **asked["options"]).save())
    print(json.dumps({"seconds": time.perf_counter() - at}), flush=True)
