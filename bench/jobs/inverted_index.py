"""Inverted index as a user of Gristmill writes it; without a combiner, so that every pair is shuffled."""

import re
from pathlib import Path

from gristmill import MapReduce

find_words = re.compile(r"[^\W\d_]+").findall


class InvertedIndex(MapReduce):
    """The files that each word stands in."""

    input_format = "whole"

    def mapper(self, path, text):
        name = Path(path).name
        for word in find_words(text):
            yield word, name

    def reducer(self, word, names):
        yield word, ",".join(sorted(set(names)))
