"""The mean by key. Input: lines `key,value`, such as `Vienna,21.5`.

    gristmill run examples/mean.py temperatures.txt

A mean of means is not the mean. So what travels is (sum, count), which can be added up in any order and any number of
times, and only the reducer divides.
"""

from gristmill import MapReduce


class Mean(MapReduce):
    """The mean value of each key."""

    def mapper(self, _, line):
        key, comma, value = line.rpartition(",")
        if comma:
            yield key, (float(value), 1)

    def combiner(self, key, pairs):
        yield key, added(pairs)

    def reducer(self, key, pairs):
        total, count = added(pairs)
        yield key, total / count


def added(pairs):
    """The sum of sums, and the sum of counts."""
    total, count = 0.0, 0
    for value, n in pairs:
        total += value
        count += n
    return total, count


if __name__ == "__main__":
    Mean.main()
