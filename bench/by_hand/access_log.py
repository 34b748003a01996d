"""Hits and bytes by path and status, as a good Python programmer writes it by hand: two processes, a dict each.

python bench/by_hand/access_log.py INPUT OUTPUT
"""

import multiprocessing
import re
import sys
from itertools import pairwise
from pathlib import Path

PROCESSES = 2
BLOCK_BYTES = 1 << 20
parse = re.compile(r'\S+ \S+ \S+ \[[^]]+\] "\S+ (\S+) [^"]*" (\d{3}) (\d+|-) "[^"]*" "[^"]*" [\d.]+$').match

Totals = dict[tuple[str, str], list[int]]


def add_up(path: str, start: int, end: int) -> Totals:
    """Add up the lines that begin in a range of bytes; both ends are beginnings of lines."""
    totals: Totals = {}
    with Path(path).open("rb") as stream:
        stream.seek(start)
        while start < end:
            block = stream.read(min(BLOCK_BYTES, end - start))
            if start + len(block) < end:
                block += stream.readline()
            start += len(block)
            for line in block.decode("utf-8", "surrogateescape").split("\n"):
                if match := parse(line):
                    page, status, size = match.groups()
                    sent = 0 if size == "-" else int(size)
                    total = totals.get((page, status))
                    if total is None:
                        totals[page, status] = [1, sent]
                    else:
                        total[0] += 1
                        total[1] += sent
    return totals


def line_starts(path: str, count: int) -> list[int]:
    """Where to cut the file into so many ranges: at beginnings of lines."""
    size = Path(path).stat().st_size
    with Path(path).open("rb") as stream:
        cuts = [0]
        for n in range(1, count):
            stream.seek(size * n // count)
            stream.readline()
            cuts.append(stream.tell())
    return [*cuts, size]


if __name__ == "__main__":
    source, target = sys.argv[1:]
    cuts = line_starts(source, PROCESSES)
    with multiprocessing.Pool(PROCESSES) as pool:
        totals, *others = pool.starmap(add_up, [(source, *cut) for cut in pairwise(cuts)])
    for other in others:
        for key, (hits, sent) in other.items():
            total = totals.setdefault(key, [0, 0])
            total[0] += hits
            total[1] += sent
    with Path(target).open("w", encoding="utf-8", errors="surrogateescape") as out:
        out.writelines(f"{page} {status}\t{hits} {sent}\n" for (page, status), (hits, sent) in sorted(totals.items()))
    print(f"{sum(hits for hits, _ in totals.values()):,} lines, {len(totals):,} pairs of path and status")
