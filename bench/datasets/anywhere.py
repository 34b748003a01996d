"""A chain of this folder, in a session anywhere: python bench/datasets/anywhere.py NAME WHERE INPUT OUTPUT

Prints how many seconds the work took, from when the executors were up to its committed output.
"""

import importlib
import sys
import time

import gristmill as gm

EXECUTORS = 2
MEMORY = "1GiB"

if __name__ == "__main__":
    name, where, source, target = sys.argv[1:]
    chain = importlib.import_module(name)
    with gm.Session(on=where, executors=EXECUTORS, memory=MEMORY) as session:
        session.range(EXECUTORS, partitions=EXECUTORS).count()  # they are up when they have done something
        begun = time.perf_counter()
        chain.write(session, source, target)
        print(time.perf_counter() - begun)
