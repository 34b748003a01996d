"""A maker of access logs that look like those of a real site, the same for the same seed.

One day of a web shop in the combined format with the seconds of latency at the end:

    203.0.113.9 - ada [20/Nov/2026:13:25:36 +0000] "GET /cart HTTP/1.1" 200 5123 "/products" "Mozilla/5.0 (…)" 0.034

Few paths get most hits (Zipf), each path has its own latencies (log-normal), sizes and errors, and the hits follow the
hours of the day. What is slow to draw is drawn once, into pools; a line picks from the pools.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random

DAY_SECONDS = 24 * 60 * 60
_DAY = datetime(2026, 11, 20, tzinfo=UTC)
_BATCH_LINES = 20_000
_MAX_HITS_POOL = 1 << 17
_MIN_HITS_POOL = 1 << 10
_CLIENTS_POOL = 1 << 14
_RARE_PATHS = 400
_ZIPF_EXPONENT = 1.1

_AGENTS = (
    ("Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/131.0 Safari/537.36", 40),
    ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 Safari/604.1", 25),
    ("Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0", 15),
    ("Mozilla/5.0 (compatible; ExampleBot/2.1; +http://www.example.com/bot.html)", 8),
    ("curl/8.9.1", 4),
    ("-", 1),
)
_USERS = ("ada", "grace", "linus", "barbara", "edsger", "donald")


@dataclass(frozen=True)
class _Page:
    """What is typical of the hits on one path."""

    path: str
    method: str
    status: int
    mean_bytes: int
    median_seconds: float
    error_share: float


_PAGES = (
    _Page("/", "GET", 200, 14_000, 0.040, 0.001),
    _Page("/products", "GET", 200, 22_000, 0.085, 0.002),
    _Page("/search", "GET", 200, 18_000, 0.180, 0.010),
    _Page("/cart", "GET", 200, 6_000, 0.030, 0.002),
    _Page("/static/app.js", "GET", 304, 0, 0.002, 0.0),
    _Page("/static/app.css", "GET", 304, 0, 0.002, 0.0),
    _Page("/api/v1/stock", "GET", 200, 900, 0.012, 0.004),
    _Page("/login", "POST", 302, 400, 0.095, 0.030),
    _Page("/checkout", "POST", 200, 3_000, 0.350, 0.015),
    _Page("/favicon.ico", "GET", 200, 1_150, 0.001, 0.0),
    _Page("/wp-login.php", "GET", 404, 196, 0.001, 0.0),
)
_SERVER_ERRORS = (500, 502, 503)


def lines(count: int, seed: int = 0) -> Iterator[str]:
    """An access log of so many lines, each with its newline, in chunks of many lines."""
    random = Random(seed)
    clients = _clients(random)
    hits = _hits(random, min(_MAX_HITS_POOL, max(_MIN_HITS_POOL, count)))
    stamps = _stamps(count)
    for start in range(0, count, _BATCH_LINES):
        size = min(_BATCH_LINES, count - start)
        drawn = zip(random.choices(clients, k=size), stamps, random.choices(hits, k=size), strict=False)
        yield "".join([f"{who} [{stamp}] {what} {agent} {seconds}\n" for (who, agent), stamp, (what, seconds) in drawn])


def _clients(random: Random) -> list[tuple[str, str]]:
    """Pairs of ``address - user`` and quoted agent. A client keeps its agent; some clients come far more often."""
    agents = random.choices([f'"{name}"' for name, _ in _AGENTS], [weight for _, weight in _AGENTS], k=_CLIENTS_POOL)
    pool = []
    for agent in agents:
        address = ".".join(str(random.randint(low, 250)) for low in (11, 0, 0, 1))
        user = random.choice(_USERS) if random.random() < 0.05 else "-"
        pool.append((f"{address} - {user}", agent))
    return random.choices(pool, _zipf(len(pool), 0.6), k=len(pool))


def _hits(random: Random, size: int) -> list[tuple[str, str]]:
    """Pairs of ``"request" status bytes "referer"`` and latency, with every path as often as it is asked for."""
    pages = _pages(random)
    referers = ['"-"', *(f'"https://shop.example.com{page.path}"' for page in _PAGES[:4])]
    pool = []
    for page in random.choices(pages, _zipf(len(pages), _ZIPF_EXPONENT), k=size):
        failed = random.random() < page.error_share
        status = random.choice(_SERVER_ERRORS) if failed else page.status
        sent = 162 if failed else round(page.mean_bytes * random.uniform(0.8, 1.2))
        seconds = random.lognormvariate(math.log(page.median_seconds), 0.6) * (4 if failed else 1)
        request = f'"{page.method} {page.path} HTTP/1.1" {status} {sent or "-"} {random.choice(referers)}'
        pool.append((request, f"{max(seconds, 0.001):.3f}"))
    return pool


def _pages(random: Random) -> list[_Page]:
    """The well-known paths, then many products that are asked for less and less."""
    products = [
        _Page(f"/products/{1000 + n}", "GET", 200, random.randint(8_000, 30_000), random.uniform(0.03, 0.15), 0.002)
        for n in range(_RARE_PATHS)
    ]
    return [*_PAGES, *products]


def _zipf(size: int, exponent: float) -> list[float]:
    return [1 / rank**exponent for rank in range(1, size + 1)]


def _stamps(count: int) -> Iterator[str]:
    """So many times of one day, ascending, dense in the afternoon and sparse at night."""
    weights = [_traffic(second) for second in range(0, DAY_SECONDS, 60)]
    per_second = count / (60 * sum(weights))
    date = _DAY.strftime("%d/%b/%Y")  # locale "C" unless somebody set another, which Gristmill never does
    due = given = 0.0
    for minute, weight in enumerate(weights):
        hour_minute = f"{date}:{minute // 60:02d}:{minute % 60:02d}"
        for second in range(60):
            due += per_second * weight
            while given < due - 0.5:
                given += 1
                yield f"{hour_minute}:{second:02d} +0000"
    last = f"{date}:23:59:59 +0000"
    while given < count:  # what rounding has left over
        given += 1
        yield last


def _traffic(second: int) -> float:
    """How busy the site is at a second of the day: least about 4 in the morning, most about 16 in the afternoon."""
    return 1.0 - 0.75 * math.cos(2 * math.pi * (second / DAY_SECONDS - 4 / 24))
