"""Which pages matter? PageRank over links between pages.

    gristmill run examples/pagerank.py LINKS [ROUNDS]
    python examples/pagerank.py LINKS [ROUNDS]

LINKS has a link in each line: a page, and the page that it links to. The ten pages of the highest rank are printed,
highest first. The links are read and grouped once; each round takes them from the cache.
"""

import sys
from operator import add

import gristmill as gm

DAMPING = 0.85


def link(line):
    page, target = line.split()
    return page, target


def shares(joined):
    """What a page gives: its rank, in equal shares, to those that it links to."""
    page, (targets, rank) = joined
    yield page, 0.0  # to itself, so that it stays even if nobody links to it
    for target in targets:
        yield target, rank / len(targets)


def pagerank(links, rounds):
    """The rank of each page, from the pages that each page links to; 1 on average at first."""
    ranks = links.map_values(lambda targets: 1.0)
    for _ in range(rounds):
        ranks = links.join(ranks).flat_map(shares).reduce_by_key(add).map_values(lambda s: 1 - DAMPING + DAMPING * s)
    return ranks


def main(path, rounds="10"):
    links = gm.read_text(path).map(link).distinct().group_by_key().cache()
    for page, rank in pagerank(links, int(rounds)).top(10, key=lambda pair: pair[1]):
        print(f"{page}\t{rank:.4f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
