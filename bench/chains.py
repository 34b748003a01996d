"""What is claimed of datasets, beside scripts by hand and peers: the scripts are in bench/datasets."""

from __future__ import annotations

import math
from pathlib import Path

import data
from compare import CLAIMS, Claim
from results import digest_in_order, parts
from settings import Settings

EDGES_A_MB = 4_000  # for each MB of text: 2 million for 500
ROWS_A_MB = 20_000  # of the left table: 10 million for 500
ROWS_A_PARTNER = 10
LINES_A_MB = 40_000  # to sort: 2 GB for 500
_CLOSE = 1e-9  # sums of floats differ by the order in which they are added

Ranks = dict[bytes, float]


def _edges(settings: Settings) -> Path:
    return data.edges(settings.size_mb * EDGES_A_MB)


def _tables(settings: Settings) -> Path:
    rows = settings.size_mb * ROWS_A_MB
    return data.tables(rows, rows // ROWS_A_PARTNER)


def _lines(settings: Settings) -> Path:
    return data.sortable(settings.size_mb * LINES_A_MB)


def ranks(output: Path) -> Ranks:
    """The rank of each page, out of lines of page, tab, rank."""
    lines = (line.split(b"\t") for part in parts(output) for line in part.read_bytes().splitlines())
    return {page: float(rank) for page, rank in lines}


def same_ranks(found: Ranks, expected: Ranks) -> bool:
    """Whether these are the same ranks of the same pages, but for the last digits."""
    return found.keys() == expected.keys() and all(
        math.isclose(rank, expected[page], rel_tol=_CLOSE) for page, rank in found.items()
    )


CHAINS = (
    Claim(
        "chain", "Word count as a chain", 1.15, 1.15, ("spark",), CLAIMS[0].make_input,
        "A word is a run of letters. `flat_map`, `map` and `reduce_by_key`, each with a Python function.",
        work="wordcount", chain=True,
    ),
    Claim(
        "pagerank", "PageRank", 3.0, 2.0, ("spark",), _edges,
        "Ten rounds; the links are grouped by page and cached before the first. By hand is one process with dicts. "
        "Ranks are compared to nine digits.",
        chain=True, read=ranks, same=same_ranks,
    ),
    Claim(
        "join", "Join", 1 / 3, 1 / 3, ("spark", "duckdb"), _tables,
        "Two tables of text joined by key into text; each row of the left one, ten times as long as the right one, "
        "has a partner. By hand is a dict and two processes that share it. DuckDB works in columns.",
        chain=True, against="spark",
    ),
    Claim(
        "sort", "Sort", 1.0, 1.0, ("spark", "duckdb", "polars"), _lines,
        "Lines of 100 bytes that begin with a random key of ten; text in, text out, the same bytes. GNU sort has the "
        "memory to sort all at once. DuckDB and Polars work in columns.",
        chain=True, reference="GNU sort", memory_limit=2 << 30, read=digest_in_order,
    ),
)  # fmt: skip
