"""Archive objects to cleaned rows in PySpark; no store. Prints one JSON line."""
import json
import sys
import time

from pyspark.sql import SparkSession

from spark_pins import cleaned_pins

folder, rounds = sys.argv[1], int(sys.argv[2])

started = time.perf_counter()
spark = (SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
         .config("spark.driver.memory", "2g").config("spark.sql.shuffle.partitions", "2").getOrCreate())
spark.sparkContext.setLogLevel("ERROR")
start_seconds = time.perf_counter() - started

seconds = []
for _ in range(rounds):
    at = time.perf_counter()
    cleaned_pins(spark, folder).write.format("noop").mode("overwrite").save()
    seconds.append(time.perf_counter() - at)
print(json.dumps({"start": start_seconds, "cold": seconds[0], "warm": min(seconds[1:])}))
