"""What the modules of the contract suite share: one server with its workers, which takes a while to start."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from chaos_cluster_kit import Site, site


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server with two workers that see different machines."""
    with site(tmp_path_factory.mktemp("served"), workers=2) as at:
        yield at


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some 60 KB of text in three files."""
    folder = tmp_path_factory.mktemp("texts")
    chance = random.Random(11)
    words = [f"w{'abcdefghij'[i % 10]}{'uvwxyzéñлж'[i // 10 % 10]}" for i in range(100)] + ["the", "stopword"]
    for number, ending in enumerate(("\n", "\r\n", "\n")):
        lines = [" ".join(chance.choices(words, k=9)) for _ in range(500)]
        (folder / f"book{number}.txt").write_bytes((ending.join(lines) + ending * number).encode())
    return folder
