"""Join of two tables with PySpark's RDDs: python join_spark.py FOLDER OUTPUT"""

import os
import sys

from pyspark import SparkConf, SparkContext


def pair(line):
    key, _, value = line.partition("\t")
    return key, value


def text(joined):
    key, (value, other) = joined
    return f"{key}\t{value}\t{other}"


if __name__ == "__main__":
    source, target = sys.argv[1:]
    os.environ["PYSPARK_PYTHON"] = sys.executable
    settings = SparkConf().setMaster("local[2]").set("spark.ui.enabled", "false").set("spark.driver.memory", "4g")
    with SparkContext(conf=settings) as spark:
        left, right = (spark.textFile(f"{source}/{side}.txt").map(pair) for side in ("left", "right"))
        left.join(right).map(text).saveAsTextFile(target)
