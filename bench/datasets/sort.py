"""Sort of lines by their first ten bytes: python bench/datasets/sort.py INPUT OUTPUT [MEMORY]"""

import sys

import gristmill as gm

EXECUTORS = 2
KEY_BYTES = 10


def write(session, source, target):
    session.read_text(source).sort_by(lambda line: line[:KEY_BYTES]).write_text(target)


if __name__ == "__main__":
    source, target, *memory = sys.argv[1:]
    with gm.Session(on="local", executors=EXECUTORS, memory=memory[0] if memory else "1GiB") as session:
        write(session, source, target)
