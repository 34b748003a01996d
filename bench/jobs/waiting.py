"""Tasks that wait rather than work, so that many workers are really parallel on a few cores.

Parameters: ``reducers``, how many reduce tasks there are; ``reduce_seconds``, what one of them takes on average;
``slow_worker`` takes ``times`` as long. A worker is known by ``GRISTMILL_BENCH_WORKER`` in its environment.
"""

import os
import time

from gristmill import MapReduce


class Waiting(MapReduce):
    """Each line says how many seconds it takes; each task of the shuffle gets a pair of it."""

    def factor(self):
        """What this worker takes, compared with the others."""
        here = os.environ.get("GRISTMILL_BENCH_WORKER", "")
        return float(self.params["times"]) if here == self.params.get("slow_worker") else 1.0

    def mapper(self, _, line):
        time.sleep(float(line) * self.factor())
        for partition in range(int(self.params["reducers"])):
            yield partition, 1

    def reducer(self, partition, ones):
        about = 0.5 + (partition * 37 % 101) / 100  # not all alike
        time.sleep(float(self.params["reduce_seconds"]) * about * self.factor())
        yield partition, sum(ones)

    def partitioner(self, key, partitions):
        return key
