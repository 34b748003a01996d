"""Hits and bytes by path and status as a user of Gristmill writes it."""

import re

from gristmill import MapReduce

parse = re.compile(r'\S+ \S+ \S+ \[[^]]+\] "\S+ (\S+) [^"]*" (\d{3}) (\d+|-) "[^"]*" "[^"]*" [\d.]+$').match


class AccessLog(MapReduce):
    """Sums of (hits, bytes) by (path, status)."""

    def mapper(self, _, line):
        if match := parse(line):
            page, status, size = match.groups()
            yield (page, status), (1, 0 if size == "-" else int(size))

    def combiner(self, key, totals):
        yield key, added(totals)

    def reducer(self, key, totals):
        hits, sent = added(totals)
        yield " ".join(key), f"{hits} {sent}"


def added(totals):
    """The sums of both fields."""
    hits = sent = 0
    for more_hits, more_sent in totals:
        hits += more_hits
        sent += more_sent
    return hits, sent
