"""Lines of many small files: python bench/datasets/small_files.py FOLDER OUTPUT

Prints how many tasks read them, how many lines there are, and when the first element was seen, as seconds since 1970.
"""

import sys
import time
from pathlib import Path

import gristmill as gm

EXECUTORS = 2


def noting(folder):
    """A function that passes elements on and leaves a file named after the time of the first one of its task."""

    def note(elements):
        for number, element in enumerate(elements):
            if number == 0:
                (folder / repr(time.time())).touch()
            yield element

    return note


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    target.mkdir()
    with gm.Session(on="local", executors=EXECUTORS) as session:
        lines = session.read_text(source).map_partitions(noting(target)).count()
    times = [float(path.name) for path in target.iterdir()]
    print(len(times), lines, min(times))
