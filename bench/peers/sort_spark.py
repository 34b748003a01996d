"""Sort of lines by their first ten bytes with PySpark's RDDs: python sort_spark.py INPUT OUTPUT"""

import os
import sys

from pyspark import SparkConf, SparkContext

KEY_BYTES = 10

if __name__ == "__main__":
    source, target = sys.argv[1:]
    os.environ["PYSPARK_PYTHON"] = sys.executable
    settings = SparkConf().setMaster("local[2]").set("spark.ui.enabled", "false").set("spark.driver.memory", "4g")
    with SparkContext(conf=settings) as spark:
        spark.textFile(source).sortBy(lambda line: line[:KEY_BYTES]).saveAsTextFile(target)
