"""A job that failed is tried again on a real server with a worker: what is done is not done again, also by the next."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gristmill import MapReduce
from gristmill.api.client import ServerClient
from gristmill.api.loading import job_of_class
from gristmill.api.remote import RemoteHandle, submit_to
from gristmill.config import JobOptions
from gristmill.errors import JobFailed, UsageError
from gristmill.service.server import Server, ServeSettings

PATIENCE = 60.0


class Picky(MapReduce):
    """Counts words. Each map task leaves a mark; the reducers fail until there is a gate, and leave marks then."""

    def mapper_init(self) -> None:
        _mark(self.params["folder"], "map")

    def mapper(self, _: None, line: str) -> Iterator[tuple[str, int]]:
        yield line, 1

    def reducer_init(self) -> None:
        if not Path(self.params["folder"], "gate").exists():
            raise ValueError("the gate is shut")
        _mark(self.params["folder"], "reduce")

    def reducer(self, word: str, counts: Iterator[int]) -> Iterator[tuple[str, int]]:
        yield word, sum(counts)


def _mark(folder: str, kind: str) -> None:
    import tempfile

    tempfile.mkstemp(prefix=f"{kind}-", dir=folder)


def marks(folder: Path, kind: str) -> int:
    return len(list(folder.glob(f"{kind}-*")))


def failed(client: ServerClient, folder: Path) -> RemoteHandle:
    """A job that has failed after its map tasks."""
    text = "".join(f"word{number}\n" for number in range(4))
    (folder / "in.txt").write_text(text * 4)
    options = JobOptions(reducers=2, max_attempts=1, split_bytes=len(text), speculation=False)
    job = job_of_class(Picky, {"folder": str(folder)})
    handle = submit_to(client, job, [str(folder / "in.txt")], folder / "out", job.resolve(options, folder / "out"))
    with pytest.raises(JobFailed, match="the gate is shut"):
        handle.finish(PATIENCE)
    assert marks(folder, "map") == 4
    return handle


def client_of(server: Server) -> ServerClient:
    return ServerClient(server.url, server.token_file.read_text().strip())


def check(client: ServerClient, job: str, folder: Path) -> None:
    """Let it succeed, without a map task."""
    (folder / "gate").touch()
    client.post(f"/jobs/{job}/retry")
    RemoteHandle(client, job).finish(PATIENCE)
    rows = [line for part in sorted((folder / "out").glob("part-*")) for line in part.read_text().splitlines()]
    assert sorted(rows) == [f"word{number}\t4" for number in range(4)]
    assert marks(folder, "map") == 4, "no map task ran again"
    assert marks(folder, "reduce") == 2


def test_only_what_is_unfinished_runs_again_on_this_server_and_on_the_next(tmp_path: Path) -> None:
    data_dir, here, later = tmp_path / "server", tmp_path / "here", tmp_path / "later"
    here.mkdir()
    later.mkdir()
    settings = ServeSettings(port=0, data_dir=data_dir, executors=2)
    with Server(settings) as server:
        client = client_of(server)
        job = failed(client, here).job_id
        check(client, job, here)
        with pytest.raises(UsageError, match="has succeeded"):
            client.post(f"/jobs/{job}/retry")
        left = failed(client, later).job_id
    blocks = list(data_dir.glob(f"worker/jobs/{left}/blocks/*.block"))
    assert len(blocks) == 4
    with Server(settings) as server:
        check(client_of(server), left, later)
        give_up = time.monotonic() + PATIENCE
        while any(block.exists() for block in blocks):
            assert time.monotonic() < give_up
            time.sleep(0.01)
