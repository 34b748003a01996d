"""Blobs are what their names say, for whoever is about to use one."""

from __future__ import annotations

import os
import queue
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_workplace import Heard, NoBlocks

from gristmill.errors import UsageError
from gristmill.runtime.files.blobs import BlobStore, digest_of
from gristmill.runtime.protocol import agents as pb
from gristmill.runtime.worker.datadirs import DataDirs
from gristmill.runtime.worker.front import Front
from gristmill.runtime.worker.premises import Premises
from gristmill.runtime.worker.workplace import Workplace

DATA = b"what was uploaded"
NAME = digest_of(DATA)


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    store = BlobStore(tmp_path / "blobs")
    assert store.add(DATA) == NAME
    return store


def alter(path: Path, data: bytes = b"what was altered!") -> None:
    """Change a file, and hide that as well as can be."""
    before = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size


def test_what_was_altered_is_not_read(store: BlobStore) -> None:
    assert store.read(NAME) == DATA
    alter(store.path(NAME))
    with pytest.raises(UsageError, match="damaged or altered"):
        store.read(NAME)


def test_what_was_altered_is_removed_when_it_is_about_to_be_used(store: BlobStore) -> None:
    assert not store.holds(digest_of(b"other"))
    assert store.holds(NAME)
    assert store.holds(NAME), "it is not read again"
    alter(store.path(NAME))
    assert not store.holds(NAME)
    assert not store.has(NAME)
    store.add(DATA)
    assert store.holds(NAME)


@pytest.fixture
def workplace(tmp_path: Path) -> Iterator[Workplace]:
    dirs = DataDirs.open([tmp_path / "data"])
    premises = Premises(1, 1 << 28, "m", dirs, NoBlocks(), Front("http://127.0.0.1:1", "token"))
    place = Workplace(premises, pb.Welcome(worker="w#1", beat_seconds=1.0, jobs=["j"]), Heard(), queue.SimpleQueue())
    yield place
    place.close(delete=False)
    dirs.close()


@pytest.mark.parametrize("session", ["", "s"])
def test_a_worker_fetches_again_what_was_altered_on_its_disk(
    workplace: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, session: str
) -> None:
    """The code, what came along with it, and values of broadcasts: nobody unpickles or imports what is not right."""
    blobs = {digest_of(data): data for data in (b"code", b"bundle", b"value")}
    code, bundle, value = blobs
    asked: list[str] = []

    def fetch(_front: Front, name: str) -> bytes:
        asked.append(name)
        return blobs[name]

    monkeypatch.setattr(Front, "blob", fetch)
    order = pb.AddJob(job="j", code=code, bundles=[bundle], broadcasts=[value], session=session)
    assert workplace._take_job(order) is None
    assert workplace._take_job(order) is None
    assert sorted(asked) == sorted(blobs), "each once"
    folder = tmp_path / "data" / (f"jobs/{session}/blobs" if session else "blobs")
    for name, data in blobs.items():
        alter(folder / name, data.upper())
    assert workplace._take_job(order) is None
    assert sorted(asked) == sorted([*blobs, *blobs])
    assert workplace._specs["j"].code == b"code"
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == blobs


def test_what_a_server_sends_must_be_what_was_asked_for(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Front, "blob", lambda _front, _name: b"something else")
    report = workplace._take_job(pb.AddJob(job="j", code=NAME))
    assert report is not None
    assert "another SHA-256" in report.message
