"""How often does each word stand? A word is a run of letters.

gristmill run examples/wordcount.py BOOKS... -o counts
python examples/wordcount.py BOOKS... -o counts
"""

import re

from gristmill import MapReduce

find_words = re.compile(r"[^\W\d_]+").findall


class WordCount(MapReduce):
    """Count the words of text files."""

    def mapper(self, _, line):
        for word in find_words(line):
            yield word, 1

    def combiner(self, word, counts):
        yield word, sum(counts)

    def reducer(self, word, counts):
        yield word, sum(counts)


if __name__ == "__main__":
    WordCount.main()
