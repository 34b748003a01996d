"""The N commonest words, commonest first. Two steps: count the words, then choose among the counts.

gristmill run examples/top_n.py BOOKS... --set n=20
"""

import heapq
import re

from gristmill import MapReduce

find_words = re.compile(r"[^\W\d_]+").findall


def greatest_first(pair):
    """Order of (count, word): the greater count first, equal counts by word."""
    count, word = pair
    return -count, word


class TopN(MapReduce):
    """The --set n=N commonest words (10 unless told)."""

    def steps(self):
        return [
            self.step(mapper=self.words, combiner=self.add, reducer=self.add),
            self.step(mapper=self.to_one_place, combiner=self.best, reducer=self.best_in_order),
        ]

    def words(self, _, line):
        for word in find_words(line):
            yield word, 1

    def add(self, word, counts):
        yield word, sum(counts)

    # All candidates get the same key, so one reducer sees them. Each map task sends it no more than N.

    def to_one_place(self, word, count):
        yield None, (count, word)

    def best(self, _, pairs):
        for pair in heapq.nsmallest(int(self.params.get("n", 10)), pairs, key=greatest_first):
            yield None, pair

    def best_in_order(self, _, pairs):
        for _, (count, word) in self.best(None, pairs):
            yield word, count


if __name__ == "__main__":
    TopN.main()
