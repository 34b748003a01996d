"""A job that does nothing for a while, so that what idle executors take can be measured."""

import time

from gristmill import MapReduce

SECONDS = 2.0


class Idle(MapReduce):
    """Sleep at each line."""

    def mapper(self, _, line):
        time.sleep(SECONDS)
        yield line, 1
