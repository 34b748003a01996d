"""docs/watching.md names every metric, and every kind of fact with its fields."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from gristmill.runtime.journal.facts import Fact
from gristmill.service.metrics.exposition import families_of
from gristmill.service.metrics.figures import Figures

PAGE = (Path(__file__).parents[1] / "docs" / "watching.md").read_text("utf-8")


def test_every_metric_is_named() -> None:
    suffixes = {"counter": "_total", "histogram": "", "gauge": ""}
    there = {family.name + suffixes[family.type] for family in families_of(Figures())}
    named = set(re.findall(r"`(gristmill_[a-z_]+)`", PAGE))
    assert there <= named, there - named
    assert len(there) > 20


def test_every_kind_of_fact_is_named() -> None:
    kinds = {cls.kind for cls in get_args(Fact)}
    rows = set(re.findall(r"^\| `([a-z]+ [a-z ]+)` \|", PAGE, re.MULTILINE))
    assert rows == kinds
