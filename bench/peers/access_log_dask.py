"""Hits and bytes by path and status with a Dask bag: python access_log_dask.py INPUT OUTPUT"""

import re
import sys
from operator import itemgetter
from pathlib import Path

import dask
import dask.bag

parse = re.compile(r'\S+ \S+ \S+ \[[^]]+\] "\S+ (\S+) [^"]*" (\d{3}) (\d+|-) "[^"]*" "[^"]*" [\d.]+$').match


def pairs(line):
    if not (match := parse(line)):
        return []
    page, status, size = match.groups()
    return [((page, status), 0 if size == "-" else int(size))]


def add_hit(total, pair):
    return total[0] + 1, total[1] + pair[1]


def added(one, other):
    return one[0] + other[0], one[1] + other[1]


if __name__ == "__main__":
    source, target = sys.argv[1:]
    hits = dask.bag.read_text(source, blocksize=16 << 20).map(pairs).flatten()
    with dask.config.set(scheduler="processes", num_workers=2):
        totals = hits.foldby(itemgetter(0), add_hit, (0, 0), added, (0, 0)).compute()
    with Path(target).open("w", encoding="utf-8") as out:
        out.writelines(f"{page} {status}\t{count} {sent}\n" for (page, status), (count, sent) in sorted(totals))
