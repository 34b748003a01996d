"""Does nothing for a while, so that what idle executors take can be measured: python bench/datasets/idle.py MEMORY"""

import sys
import time

import gristmill as gm

EXECUTORS = 2
SECONDS = 2.0

if __name__ == "__main__":
    with gm.Session(on="local", executors=EXECUTORS, memory=sys.argv[1]) as session:
        session.range(EXECUTORS, partitions=EXECUTORS).foreach(lambda _: time.sleep(SECONDS))
