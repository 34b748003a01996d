"""Submissions of our own clients with something odd in them: refused, or run, but never the server's end."""

from __future__ import annotations

import contextlib
import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gristmill.api.job import Job
from gristmill.api.loading import load_builtin
from gristmill.api.messages import SUBMISSION_TYPE, VERSION_HEADERS, SubmitRequest
from gristmill.api.pickling import pickle_code
from gristmill.api.prepare import Submission
from gristmill.config import JobOptions
from gristmill.plan.stages import InputSpec
from gristmill.runtime.files.blobs import digest_of
from gristmill.service.server import Server, ServeSettings

ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 10**9, 10**30, 0.5, -0.0, float("inf"), float("nan"), "", "x", "\x00", "\ud800",
    "../../etc/passwd", "/", "~", "SplitSource", "OutputSink", "partition", "pickle", "y" * 5000, [], [[]], {},
    {"x": 1}, [None], ["x"], [0, 0, 0], [[["SplitSource", {}], []]],
)  # fmt: skip


class Mill:
    """A server without workers, and a submission that it would take."""

    def __init__(self, server: Server, data_dir: Path, folder: Path) -> None:
        self.server = server
        self._http = {"Authorization": f"Bearer {(data_dir / 'token').read_text().strip()}", **VERSION_HEADERS}
        (folder / "in.txt").write_text("a b\n" * 100)
        job: Job = load_builtin("wordcount")
        code = pickle_code(job.code, stable=True)
        options = job.resolve(JobOptions(reducers=2, split_bytes=100), folder / "out")
        submission = Submission(
            name="words", code=b"", plan=job.plan(options, private=False), options=options,
            inputs=(InputSpec((str(folder / "in.txt"),)),), output=str(folder / "out"),
        )  # fmt: skip
        self.body = SubmitRequest(submission, digest_of(code)).to_json()
        answer = httpx.put(f"{server.url}/api/v1/blobs/{digest_of(code)}", content=code, headers=self._http)
        assert answer.status_code == 201

    def post(self, client: httpx.Client, body: Any) -> httpx.Response:
        data = json.dumps(body).encode()
        headers = {**self._http, "Content-Type": SUBMISSION_TYPE}
        return client.post(f"{self.server.url}/api/v1/jobs", content=data, headers=headers)


@pytest.fixture(scope="module")
def mill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mill]:
    data_dir = tmp_path_factory.mktemp("server")
    # Some name folders that are not absolute: they are below this one.
    with contextlib.chdir(tmp_path_factory.mktemp("here")), Server(ServeSettings(port=0, data_dir=data_dir)) as server:
        yield Mill(server, data_dir, tmp_path_factory.mktemp("files"))


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """All containers below a value, and the keys or indexes in them."""
    if isinstance(value, dict):
        keys: list[Any] = list(value)
    elif isinstance(value, list):
        keys = list(range(len(value)))
    else:
        return
    for key in keys:
        yield value, key
        yield from places(value[key])


def mutant(body: Any, rng: random.Random) -> Any:
    """The same with one to three odd things in it."""
    found = copy.deepcopy(body)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        container, key = rng.choice(list(places(found)))
        match rng.randrange(4):
            case 0 if isinstance(container, dict):
                del container[key]
            case 0:
                container.append(copy.deepcopy(container[key]))
            case 1 if isinstance(container, dict):
                container[rng.choice(("odd", "step", "input", "parent", "made", "session"))] = rng.choice(ODD)
            case _:
                container[key] = copy.deepcopy(rng.choice(ODD))
    return found


def check(mill: Mill, count: int, seed: int) -> None:
    rng = random.Random(seed)
    taken = []
    with httpx.Client(timeout=30) as client:
        for _ in range(count):
            body = mutant(mill.body, rng)
            answer = mill.post(client, body)
            assert answer.status_code in (201, 400, 409, 422), f"{answer.status_code} {answer.text}\n{body}"
            assert mill.server.coordinator.crash is None, body
            if answer.status_code == 201:
                taken.append(answer.json()["id"])
                mill.server.jobs.cancel(taken[-1])  # the output is free again
    mill.server.check()
    for job in taken:
        known = mill.server.coordinator.find(job)
        assert known is not None and known.wait(60) is not None
    assert taken or count < 50  # some oddities do no harm
    answered = httpx.get(f"{mill.server.url}/readyz", timeout=60)
    assert answered.status_code == 200


def test_odd_submissions_end_no_server(mill: Mill) -> None:
    check(mill, 250, 1)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_thousands_of_odd_submissions_end_no_server(mill: Mill) -> None:
    for seed in range(2, 22):
        check(mill, 500, seed)
