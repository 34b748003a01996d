"""The names that the page for people from PySpark gives are ours."""

from __future__ import annotations

import re
from pathlib import Path

import gristmill as gm

PAGE = (Path(__file__).parents[1] / "docs" / "from-pyspark.md").read_text("utf-8")
_METHODS = {*dir(gm.Dataset), *dir(gm.Stats), *gm.Stats.__annotations__}


def ours() -> list[str]:
    """What stands in the second column of the tables, each call of a chain by itself."""
    found = []
    for line in PAGE.splitlines():
        if line.startswith("|") and not line.startswith("| ---"):
            found += re.findall(r"`([^`]+)`", line.split(" | ")[1])
    return found


def test_every_name_of_ours_exists() -> None:
    for code in ours():
        for holder, name in re.findall(r"(?:\b(gm)\.|^(?:(?:ds|left|a)\.)?(?!gm)|\)\.)([A-Za-z_]+)", code):
            assert hasattr(gm, name) if holder else name in _METHODS, code


def test_no_method_is_forgotten() -> None:
    page = " ".join(ours())
    for name in dir(gm.Dataset):
        if not name.startswith("_") and name != "storage_level":
            assert re.search(rf"\b{name}\b", page), name
