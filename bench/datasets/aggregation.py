"""The sum of the numbers of each key: python bench/datasets/aggregation.py INPUT OUTPUT"""

import sys
from operator import add

import gristmill as gm

EXECUTORS = 2


def number(line):
    key, _, value = line.partition("\t")
    return key, int(value)


if __name__ == "__main__":
    source, target = sys.argv[1:]
    with gm.Session(on="local", executors=EXECUTORS) as session:
        sums = session.read_text(source).map(number).reduce_by_key(add)
        sums.map(lambda pair: f"{pair[0]}\t{pair[1]}").write_text(target)
