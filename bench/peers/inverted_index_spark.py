"""Inverted index with PySpark's RDDs, every pair grouped: python inverted_index_spark.py FOLDER OUTPUT"""

import os
import re
import sys
from pathlib import PurePosixPath

from pyspark import SparkConf, SparkContext

find_words = re.compile(r"[^\W\d_]+").findall


def pairs(file):
    path, text = file
    name = PurePosixPath(path).name
    for word in find_words(text):
        yield word, name


if __name__ == "__main__":
    source, target = sys.argv[1:]
    os.environ["PYSPARK_PYTHON"] = sys.executable
    settings = SparkConf().setMaster("local[2]").set("spark.ui.enabled", "false").set("spark.driver.memory", "4g")
    with SparkContext(conf=settings) as spark:
        index = spark.wholeTextFiles(source, minPartitions=8).flatMap(pairs).groupByKey()
        index.map(lambda pair: f"{pair[0]}\t{','.join(sorted(set(pair[1])))}").saveAsTextFile(target)
