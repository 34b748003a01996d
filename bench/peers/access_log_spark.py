"""Hits and bytes by path and status with PySpark's RDDs: python access_log_spark.py INPUT OUTPUT"""

import os
import re
import sys

from pyspark import SparkConf, SparkContext

parse = re.compile(r'\S+ \S+ \S+ \[[^]]+\] "\S+ (\S+) [^"]*" (\d{3}) (\d+|-) "[^"]*" "[^"]*" [\d.]+$').match


def pairs(line):
    if match := parse(line):
        page, status, size = match.groups()
        yield (page, status), (1, 0 if size == "-" else int(size))


def added(one, other):
    return one[0] + other[0], one[1] + other[1]


def text(pair):
    (page, status), (hits, sent) = pair
    return f"{page} {status}\t{hits} {sent}"


if __name__ == "__main__":
    source, target = sys.argv[1:]
    os.environ["PYSPARK_PYTHON"] = sys.executable
    settings = SparkConf().setMaster("local[2]").set("spark.ui.enabled", "false").set("spark.driver.memory", "4g")
    with SparkContext(conf=settings) as spark:
        spark.textFile(source).flatMap(pairs).reduceByKey(added).map(text).saveAsTextFile(target)
