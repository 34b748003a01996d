"""PageRank with cached links: python bench/datasets/pagerank.py EDGES OUTPUT"""

import sys
from operator import add

import gristmill as gm

EXECUTORS = 2
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
    with gm.Session(on="local", executors=EXECUTORS) as session:
        links = session.read_text(source).map(edge).group_by_key(partitions=PARTITIONS).cache()
        ranks = links.map_values(lambda _: 1.0)
        for _ in range(ROUNDS):
            sums = links.join(ranks).flat_map(shares).reduce_by_key(add, partitions=PARTITIONS)
            ranks = sums.map_values(lambda total: 1 - DAMPING + DAMPING * total)
        ranks.map(lambda pair: f"{pair[0]}\t{pair[1]!r}").write_text(target)
