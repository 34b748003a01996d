"""The maker of access logs."""

import re
from collections import Counter

import pytest

from gristmill.cli.access_log import lines

LINE = re.compile(
    r'\d+\.\d+\.\d+\.\d+ - \S+ \[20/Nov/2026:(\d\d:\d\d:\d\d) \+0000\] "(GET|POST) (/\S*) HTTP/1\.1" (\d{3}) (\d+|-) '
    r'"[^"]*" "[^"]*" (\d+\.\d{3})\n'
)


@pytest.mark.parametrize("count", [0, 1, 2, 59, 1000, 20_000, 20_001])
def test_exactly_so_many_lines(count: int) -> None:
    assert sum(chunk.count("\n") for chunk in lines(count)) == count


def test_the_same_seed_gives_the_same_log() -> None:
    assert "".join(lines(500, 7)) == "".join(lines(500, 7))
    assert "".join(lines(500, 7)) != "".join(lines(500, 8))


def test_it_looks_like_the_log_of_a_site() -> None:
    log = "".join(lines(50_000, 3)).splitlines(keepends=True)
    found = [LINE.fullmatch(line) for line in log]
    assert all(found)
    rows = [match.groups() for match in found if match]
    times = [row[0] for row in rows]
    assert times == sorted(times)
    hours = Counter(time[:2] for time in times)
    assert hours["16"] > 4 * hours["04"] > 0
    paths = Counter(row[2] for row in rows).most_common()
    assert paths[0][0] == "/" and paths[0][1] > 20 * paths[50][1]
    statuses = Counter(row[3] for row in rows)
    assert statuses["200"] > len(rows) / 2
    assert 0 < sum(n for status, n in statuses.items() if status >= "500") < len(rows) / 20
    seconds = sorted(float(row[5]) for row in rows)
    assert seconds[0] > 0 and seconds[len(seconds) * 99 // 100] > 5 * seconds[len(seconds) // 2]
