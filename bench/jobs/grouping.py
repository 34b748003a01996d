"""Grouping without a combiner: every value is shuffled. The reducer looks at each value once and keeps none."""

from gristmill import MapReduce


class Grouping(MapReduce):
    """How many values each key has, and their length together."""

    def mapper(self, _, line):
        key, _, value = line.partition(" ")
        yield key, value

    def reducer(self, key, values):
        count = length = 0
        for value in values:
            count += 1
            length += len(value)
        yield key, f"{count} {length}"
