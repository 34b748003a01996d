"""A report on a web server's access log, by path and by minute.

    gristmill generate access-log --lines 100000 -o access.log
    gristmill run examples/access_log.py access.log -o report

By path: hits, bytes, errors (status 500 and above) and the latencies that 50, 95 and 99 % of the answers stay below.
By minute: hits. Lines that are not in the combined format with the seconds at the end are counted, not reported.

Exact percentiles would need every latency in one place. So a latency is counted in a bucket 2 % wider than the one
before: counts of buckets can be added up in any order, take a few hundred numbers however many hits there are, and
tell each percentile within 1 %.
"""

import math
import re
from collections import Counter

from gristmill import MapReduce

parse = re.compile(
    r'\S+ \S+ \S+ \[(\d+/\w+/\d+:\d\d:\d\d):\d\d [^]]+\] "\S+ ([^ "?]+)[^"]*" (\d{3}) (\d+|-) "[^"]*" "[^"]*" ([\d.]+)'
).fullmatch

WIDTH = math.log(1.02)  # of a bucket, in logarithms


class AccessLog(MapReduce):
    """Hits, bytes, errors and latencies by path; hits by minute."""

    def mapper(self, _, line):
        match = parse(line)
        if not match:
            self.counter("access log", "lines not understood")
            return
        minute, path, status, size, seconds = match.groups()
        error = int(status >= "500")
        yield path, (1, 0 if size == "-" else int(size), error, {bucket_of(float(seconds)): 1})
        yield minute, (1, 0, 0, {})

    def combiner(self, name, values):
        yield name, added(values)

    def reducer(self, name, values):
        hits, sent, errors, latencies = added(values)
        if not name.startswith("/"):
            yield name, f"hits={hits}"
            return
        p50, p95, p99 = (percentile(latencies, share) for share in (0.50, 0.95, 0.99))
        yield name, f"hits={hits} bytes={sent} errors={errors} p50={p50:.3f} p95={p95:.3f} p99={p99:.3f}"


def added(values):
    """The sum of all values, field by field."""
    hits = sent = errors = 0
    latencies = Counter()
    for more_hits, more_sent, more_errors, more_latencies in values:
        hits += more_hits
        sent += more_sent
        errors += more_errors
        for bucket, count in more_latencies.items():
            latencies[bucket] += count
    return hits, sent, errors, dict(latencies)


def bucket_of(seconds):
    """The number of the bucket that a latency falls in; what is below a microsecond counts as one."""
    return math.ceil(math.log(max(seconds, 1e-6)) / WIDTH)


def percentile(latencies, share):
    """The latency that this share of the hits does not exceed: the middle of its bucket."""
    rank = math.ceil(share * sum(latencies.values()))
    for bucket in sorted(latencies):
        rank -= latencies[bucket]
        if rank <= 0:
            return math.exp((bucket - 0.5) * WIDTH)
    raise AssertionError("a path that was seen has latencies")


if __name__ == "__main__":
    AccessLog.main()
