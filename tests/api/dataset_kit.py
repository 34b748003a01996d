"""Sessions for tests of datasets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gristmill.api.session import Session


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """A session in this process."""
    with Session(on="inline", data_dir=tmp_path_factory.mktemp("data")) as opened:
        yield opened


@pytest.fixture
def words(tmp_path: Path) -> Path:
    """Two files of text."""
    folder = tmp_path / "words"
    folder.mkdir()
    (folder / "a.txt").write_text("b a\nc\n", encoding="utf-8")
    (folder / "b.txt").write_text("a a\n", encoding="utf-8")
    return folder
