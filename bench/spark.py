"""The seed's cleaning in PySpark, made to survive its own data, over archive objects; no store. Prints one JSON line."""
import json
import os
import sys
import time

from pyspark.sql import SparkSession, functions as F
from pyspark.sql.types import IntegerType, StringType, StructField, StructType

folder, rounds = sys.argv[1], int(sys.argv[2])
text = ["category", "unique_id", "title", "description", "follower_count", "tag_list", "is_image_or_video", "image_src",
        "save_location", "received_at"]
schema = StructType([StructField(name, StringType()) for name in text]
                    + [StructField(name, IntegerType()) for name in ("index", "downloaded")])

started = time.perf_counter()
spark = (SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
         .config("spark.driver.memory", "2g").config("spark.sql.shuffle.partitions", "2").getOrCreate())
spark.sparkContext.setLogLevel("ERROR")
start_seconds = time.perf_counter() - started

PLACEHOLDERS = {
    "follower_count": ["User Info Error"],
    "title": ["No Title Data Available"],
    "description": ["No description available", "No description available Story format", "Untitled"],
    "image_src": ["Image src error."],
    "tag_list": ["N,o, ,T,a,g,s, ,A,v,a,i,l,a,b,l,e"],
}
ZEROS = {"k": 3, "M": 6, "B": 9}


def clean():
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
    rows = rows.withColumn("is_error", F.greatest(*[F.col(name).isNull() for name in required]))
    rows.write.format("noop").mode("overwrite").save()


jvm = spark._jvm.java.lang.ProcessHandle.current().pid()


def cpu_seconds():
    with open(f"/proc/{jvm}/stat") as stat:
        user, system = stat.read().rsplit(")", 1)[1].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


seconds, cpu = [], []
for _ in range(rounds):
    at, cpu_at = time.perf_counter(), cpu_seconds()
    clean()
    seconds.append(time.perf_counter() - at)
    cpu.append(cpu_seconds() - cpu_at)
print(json.dumps({"start": start_seconds, "cold": seconds[0], "warm": min(seconds[1:]), "cpu": min(cpu[1:])}))
