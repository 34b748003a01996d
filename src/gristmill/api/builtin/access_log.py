"""``access-log``: a report on a web server's access log, by path and by minute.

By path: hits, bytes, errors (status 500 and above) and the latencies that 50, 95 and 99 % of the answers stay below.
By minute: hits. A latency is counted in a bucket 2 % wider than the one before: counts of buckets can be added up in
any order, and tell each percentile within 1 %.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import ClassVar

from gristmill.api.mapreduce import MapReduce

_parse = re.compile(
    r'\S+ \S+ \S+ \[(\d+/\w+/\d+:\d\d:\d\d):\d\d [^]]+\] "\S+ ([^ "?]+)[^"]*" (\d{3}) (\d+|-)'
    r'(?: "[^"]*" "[^"]*"(?: ([\d.]+))?)?'
).fullmatch
_WIDTH = math.log(1.02)  # of a bucket, in logarithms

Sums = tuple[int, int, int, dict[int, int]]
"""Hits, bytes, errors, and how many latencies fall into each bucket."""


class AccessLog(MapReduce):
    """A report on access logs, in the common or combined format, also with the seconds of latency at the end.

    By path: hits, bytes, errors and latencies; by minute: hits. Lines of another form are counted, not reported.
    """

    PARAMETERS: ClassVar[dict[str, str]] = {}

    def mapper(self, _: None, line: str) -> Iterator[tuple[str, Sums]]:
        """One hit, by its path and by its minute."""
        match = _parse(line)
        if not match:
            self.counter("access log", "lines not understood")
            return
        minute, path, status, size, seconds = match.groups()
        latencies = {_bucket_of(seconds): 1} if seconds else {}
        yield path, (1, 0 if size == "-" else int(size), int(status >= "500"), latencies)
        yield minute, (1, 0, 0, {})

    def combiner(self, name: str, values: Iterator[Sums]) -> Iterator[tuple[str, Sums]]:
        """Add up early, so that less goes through the shuffle."""
        yield name, _added(values)

    def reducer(self, name: str, values: Iterator[Sums]) -> Iterator[tuple[str, str]]:
        """The line of a path, or of a minute."""
        hits, sent, errors, latencies = _added(values)
        if not name.startswith("/"):
            yield name, f"hits={hits}"
            return
        report = f"hits={hits} bytes={sent} errors={errors}"
        if latencies:
            p50, p95, p99 = (_percentile(latencies, share) for share in (0.50, 0.95, 0.99))
            report += f" p50={p50:.3f} p95={p95:.3f} p99={p99:.3f}"
        yield name, report


def _added(values: Iterator[Sums]) -> Sums:
    """The sum of all values, field by field."""
    hits = sent = errors = 0
    latencies: Counter[int] = Counter()
    for more_hits, more_sent, more_errors, more_latencies in values:
        hits += more_hits
        sent += more_sent
        errors += more_errors
        for bucket, count in more_latencies.items():
            latencies[bucket] += count
    return hits, sent, errors, dict(latencies)


def _bucket_of(seconds: str) -> int:
    """The number of the bucket that a latency falls in; what is below a microsecond counts as one."""
    try:
        return math.ceil(math.log(max(float(seconds), 1e-6)) / _WIDTH)
    except ValueError:  # such as 1.2.3
        return math.ceil(math.log(1e-6) / _WIDTH)


def _percentile(latencies: dict[int, int], share: float) -> float:
    """The latency that this share of the hits does not exceed: the middle of its bucket."""
    rank = math.ceil(share * sum(latencies.values()))
    for bucket in sorted(latencies):
        rank -= latencies[bucket]
        if rank <= 0:
            return math.exp((bucket - 0.5) * _WIDTH)
    raise AssertionError("there are latencies")
