"""Grouping of lines by key, every value shuffled: python bench/datasets/grouping.py INPUT OUTPUT MEMORY"""

import sys

import gristmill as gm

EXECUTORS = 2


def pair(line):
    key, _, value = line.partition(" ")
    return key, value


def summary(values):
    """How many they are, and their length together; each is looked at once and none is kept."""
    count = length = 0
    for value in values:
        count += 1
        length += len(value)
    return f"{count} {length}"


if __name__ == "__main__":
    source, target, memory = sys.argv[1:]
    with gm.Session(on="local", executors=EXECUTORS, memory=memory) as session:
        groups = session.read_text(source).map(pair).group_by_key().map_values(summary)
        groups.map(lambda group: f"{group[0]}\t{group[1]}").write_text(target)
