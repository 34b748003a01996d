"""Word count as a good Python programmer writes it by hand: two processes, a dict each.

python bench/by_hand/wordcount.py INPUT OUTPUT
"""

import multiprocessing
import re
import sys
from itertools import pairwise
from pathlib import Path

PROCESSES = 2
BLOCK_BYTES = 1 << 20
find_words = re.compile(r"[^\W\d_]+").findall


def count_words(path: str, start: int, end: int) -> dict[str, int]:
    """Count the words of the lines that begin in a range of bytes; both ends are beginnings of lines."""
    counts: dict[str, int] = {}
    with Path(path).open("rb") as stream:
        stream.seek(start)
        while start < end:
            block = stream.read(min(BLOCK_BYTES, end - start))
            if start + len(block) < end:
                block += stream.readline()
            start += len(block)
            for line in block.decode("utf-8", "surrogateescape").split("\n"):
                for word in find_words(line):
                    counts[word] = counts.get(word, 0) + 1
    return counts


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
        totals, *others = pool.starmap(count_words, [(source, *cut) for cut in pairwise(cuts)])
    for counts in others:
        for word, count in counts.items():
            totals[word] = totals.get(word, 0) + count
    with Path(target).open("w", encoding="utf-8", errors="surrogateescape") as out:
        out.writelines(f"{word}\t{totals[word]}\n" for word in sorted(totals))
    print(f"{sum(totals.values()):,} words, {len(totals):,} distinct")
