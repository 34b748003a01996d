"""Word count with PySpark's RDDs: python wordcount_spark.py INPUT OUTPUT"""

import os
import re
import sys
from operator import add

from pyspark import SparkConf, SparkContext

find_words = re.compile(r"[^\W\d_]+").findall

if __name__ == "__main__":
    source, target = sys.argv[1:]
    os.environ["PYSPARK_PYTHON"] = sys.executable
    settings = SparkConf().setMaster("local[2]").set("spark.ui.enabled", "false").set("spark.driver.memory", "4g")
    with SparkContext(conf=settings) as spark:
        counts = spark.textFile(source).flatMap(find_words).map(lambda word: (word, 1)).reduceByKey(add)
        counts.map(lambda pair: f"{pair[0]}\t{pair[1]}").saveAsTextFile(target)
