"""Archive objects to cleaned rows in PySpark; no store. Prints one JSON line."""
import json
import os
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

jvm = spark._jvm.java.lang.ProcessHandle.current().pid()


def cpu_seconds():
    with open(f"/proc/{jvm}/stat") as stat:
        user, system = stat.read().rsplit(")", 1)[1].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


seconds, cpu = [], []
for _ in range(rounds):
    at, cpu_at = time.perf_counter(), cpu_seconds()
    cleaned_pins(spark, folder).write.format("noop").mode("overwrite").save()
    seconds.append(time.perf_counter() - at)
    cpu.append(cpu_seconds() - cpu_at)
print(json.dumps({"start": start_seconds, "cold": seconds[0], "warm": min(seconds[1:]), "cpu": min(cpu[1:])}))
