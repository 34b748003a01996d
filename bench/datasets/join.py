"""Join of two tables: python bench/datasets/join.py FOLDER OUTPUT"""

import sys

import gristmill as gm

EXECUTORS = 2


def pair(line):
    key, _, value = line.partition("\t")
    return key, value


def text(joined):
    key, (value, other) = joined
    return f"{key}\t{value}\t{other}"


def write(session, source, target):
    left, right = (session.read_text(f"{source}/{side}.txt").map(pair) for side in ("left", "right"))
    left.join(right).map(text).write_text(target)


if __name__ == "__main__":
    with gm.Session(on="local", executors=EXECUTORS) as session:
        write(session, *sys.argv[1:])
