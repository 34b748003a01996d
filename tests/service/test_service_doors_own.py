"""The server's own files: no job may name them, whatever it is to do with them; and what a job may replace."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from doors_kit import Visitor, bearer

from gristmill.api.messages import SubmitRequest
from gristmill.api.prepare import Submission
from gristmill.config import JobOptions
from gristmill.errors import PathNotAllowed, UsageError
from gristmill.plan.stages import Branch, InputSpec, OutputSink, SplitSource, Stage, StagePlan
from gristmill.service.doors.paths import Roots
from gristmill.service.server import Server, ServeSettings
from gristmill.service.submission.checks import checked, paths_named, places_written


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder ``data`` of the server, links to it, and an input."""
    base = tmp_path_factory.mktemp("base")
    (base / "data").mkdir(mode=0o700)
    (base / "in.txt").write_text("a b a\n")
    (base / "link").symlink_to(base / "data")
    (base / "thesis").mkdir()
    (base / "thesis" / "chapter.txt").write_text("years of work\n")
    return base


@pytest.fixture(scope="module")
def server(base: Path) -> Iterator[Server]:
    with Server(ServeSettings(port=0, data_dir=base / "data")) as server:
        yield server


@pytest.fixture
def post(server: Server, base: Path) -> Iterator[Callable[..., tuple[int, Any]]]:
    visitor = Visitor(server)
    token = (base / "data" / "token").read_text().strip()

    def post(inputs: str, output: str, **options: object) -> tuple[int, Any]:
        wish = {"job": "wordcount", "inputs": [inputs], "output": output, "options": options}
        headers = {**bearer(token), "Content-Type": "application/json"}
        answer = visitor.ask("POST", "/api/v1/jobs", json.dumps(wish).encode(), **headers)
        return answer.status, answer.problem

    yield post
    visitor.close()


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    "output", ["data", "data/", "data/jobs", "data/new", "", "link", "link/new", "thesis/../data", "new/../link/x"]
)
def test_no_output(post: Callable[..., tuple[int, Any]], base: Path, output: str, overwrite: bool) -> None:
    status, answer = post(f"{base}/in.txt", f"{base}/{output}", overwrite=overwrite)
    assert status == 422 and "data directory" in answer["detail"], answer
    assert (base / "data" / "token").exists() and not (base / "data" / "new").exists()


@pytest.mark.parametrize("inputs", ["data/token", "data", "link/*", "l*/token", "data/*"])
def test_no_input(post: Callable[..., tuple[int, Any]], base: Path, inputs: str) -> None:
    status, answer = post(f"{base}/{inputs}", f"{base}/out")
    assert status == 422 and "data directory" in answer["detail"], answer


def test_no_shuffle_dir(post: Callable[..., tuple[int, Any]], base: Path) -> None:
    for folder in (base, base / "data", base / "link" / "x"):
        status, answer = post(f"{base}/in.txt", f"{base}/out", shuffle_dir=str(folder))
        assert status == 422 and "data directory" in answer["detail"], answer


def test_only_outputs_are_replaced(post: Callable[..., tuple[int, Any]], base: Path, server: Server) -> None:
    status, answer = post(f"{base}/in.txt", f"{base}/thesis", overwrite=True)
    assert status == 422 and "chapter.txt is there, which no job has written" in answer["detail"], answer
    assert [path.name for path in base.iterdir() if path.name.startswith(".thesis")] == []
    (base / "empty").mkdir()
    (base / "earlier").mkdir()
    (base / "earlier" / "part-r-00000").write_text("a\t1\n")
    (base / "earlier" / "_SUCCESS").write_text(json.dumps({"files": [{"name": "part-r-00000", "bytes": 4, "rows": 1}]}))
    for name in ("empty", "earlier"):
        status, answer = post(f"{base}/in.txt", f"{base}/{name}", overwrite=True)
        assert status == 201, answer
        server.jobs.cancel(answer["id"])


@pytest.mark.parametrize("name", ["FILE:///../data/x", "x:///../data/x", "1x://../data/x", "file://host{base}/data"])
def test_what_looks_like_a_uri(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    roots = Roots(closed=tmp_path / "data")
    name = name.format(base=tmp_path)
    if name.startswith("x:"):  # the scheme of something else: nobody takes it for a path
        roots.check([name])
        return
    with pytest.raises(PathNotAllowed):
        roots.check([name])


def request_of(base: str, inputs: str, shuffle_dir: str | None = None) -> SubmitRequest:
    sink = OutputSink("text", "m")
    plan = StagePlan((Stage(0, (Branch((SplitSource(0),), ()),), sink, "map"),))
    job = Submission(
        name="job", code=b"", plan=plan, inputs=(InputSpec((inputs,)),), output=None, base=base,
        options=JobOptions(shuffle_dir=shuffle_dir),
    )  # fmt: skip
    return SubmitRequest(job, "")


def test_relative_names_begin_at_the_clients_folder(tmp_path: Path) -> None:
    """As planning takes them: or something would be looked at, or made, before it is refused."""
    (tmp_path / "root").mkdir()
    roots = Roots([str(tmp_path / "root")])
    roots.check(paths_named(request_of(f"{tmp_path}/root", "in.txt", "blocks")))
    for base, inputs, shuffle_dir in (
        (f"{tmp_path}/other", "in.txt", None),
        (f"{tmp_path}/root", "../in.txt", None),
        (f"{tmp_path}/other", f"{tmp_path}/root/in.txt", "blocks"),
    ):
        request = request_of(base, inputs, shuffle_dir)
        with pytest.raises(PathNotAllowed):
            roots.check(paths_named(request))
    assert places_written(request.submission) == [f"{tmp_path}/other/blocks"]


@pytest.mark.parametrize("base", ["relative", "s3://bucket", "\0", "\ud800"])
def test_a_clients_folder_is_absolute(base: str) -> None:
    with pytest.raises(UsageError):
        checked(request_of(base, "in.txt").submission)
