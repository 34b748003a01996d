"""Word count as a chain: python bench/datasets/wordcount.py INPUT OUTPUT"""

import re
import sys
from operator import add

import gristmill as gm

EXECUTORS = 2
find_words = re.compile(r"[^\W\d_]+").findall


def write(session, source, target):
    counts = session.read_text(source).flat_map(find_words).map(lambda word: (word, 1)).reduce_by_key(add)
    counts.map(lambda pair: f"{pair[0]}\t{pair[1]}").write_text(target)


if __name__ == "__main__":
    with gm.Session(on="local", executors=EXECUTORS) as session:
        write(session, *sys.argv[1:])
