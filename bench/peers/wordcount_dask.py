"""Word count with a Dask bag: python wordcount_dask.py INPUT OUTPUT"""

import re
import sys
from operator import add
from pathlib import Path

import dask
import dask.bag

find_words = re.compile(r"[^\W\d_]+").findall


def one_more(count, _word):
    return count + 1


def same(word):
    return word


if __name__ == "__main__":
    source, target = sys.argv[1:]
    words = dask.bag.read_text(source, blocksize=16 << 20).map(find_words).flatten()
    with dask.config.set(scheduler="processes", num_workers=2):
        counts = words.foldby(same, one_more, 0, add, 0).compute()
    with Path(target).open("w", encoding="utf-8") as out:
        out.writelines(f"{word}\t{count}\n" for word, count in sorted(counts))
