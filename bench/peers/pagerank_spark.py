"""PageRank with PySpark's RDDs, links cached: python pagerank_spark.py EDGES OUTPUT"""

import os
import sys
from operator import add

from pyspark import SparkConf, SparkContext

PARTITIONS = 2
ROUNDS = 10
DAMPING = 0.85


def edge(line):
    page, target = line.split()
    return page, target


def shares(joined):
    _, (targets, rank) = joined
    share = rank / len(targets)
    return [(target, share) for target in targets]


if __name__ == "__main__":
    source, target = sys.argv[1:]
    os.environ["PYSPARK_PYTHON"] = sys.executable
    settings = SparkConf().setMaster("local[2]").set("spark.ui.enabled", "false").set("spark.driver.memory", "4g")
    with SparkContext(conf=settings) as spark:
        links = spark.textFile(source).map(edge).groupByKey(PARTITIONS).cache()
        ranks = links.mapValues(lambda _: 1.0)
        for _ in range(ROUNDS):
            sums = links.join(ranks, PARTITIONS).flatMap(shares).reduceByKey(add, PARTITIONS)
            ranks = sums.mapValues(lambda total: 1 - DAMPING + DAMPING * total)
        ranks.map(lambda pair: f"{pair[0]}\t{pair[1]!r}").saveAsTextFile(target)
