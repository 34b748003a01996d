"""Word count as a user of Gristmill writes it."""

import re

from gristmill import MapReduce

find_words = re.compile(r"[^\W\d_]+").findall


class WordCount(MapReduce):
    """How often each word stands."""

    def mapper(self, _, line):
        for word in find_words(line):
            yield word, 1

    def combiner(self, word, counts):
        yield word, sum(counts)

    def reducer(self, word, counts):
        yield word, sum(counts)
