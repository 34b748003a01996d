"""The OpenAPI document of a real server: what it says is what is answered, whatever is asked."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings, strategies
from hypothesis.errors import Unsatisfiable

from gristmill import MapReduce
from gristmill.api.client import ServerClient
from gristmill.api.loading import job_of_class
from gristmill.api.remote import RemoteHandle, submit_to
from gristmill.config import JobOptions
from gristmill.errors import JobFailed
from gristmill.service.server import Server, ServeSettings

pytestmark = pytest.mark.filterwarnings("ignore")  # of schemathesis and its libraries

_ENDLESS = "/api/v1/jobs/{job}/events"
_CHECKS = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance")


class Talking(MapReduce):
    """Prints, and counts words. A line that says ``bad`` fails, and one that says ``wait`` takes long."""

    def mapper(self, _: None, line: str) -> Iterator[tuple[str, int]]:
        print(f"a line: {line}")
        self.counter("lines", line)
        if line == "bad":
            raise ValueError("a bad line")
        until = time.monotonic() + 3600
        while line == "wait" and not Path(self.params["gate"]).exists() and time.monotonic() < until:
            time.sleep(0.05)
        yield line, 1

    def reducer(self, word: str, counts: Iterator[int]) -> Iterator[tuple[str, int]]:
        yield word, sum(counts)


class Asked:
    """A server, and its document as schemathesis reads it.

    Attributes:
        jobs: one that succeeded, one that failed and one that runs.
    """

    def __init__(self, server: Server, token: str) -> None:
        import schemathesis  # takes its time: not in every process that collects tests

        self.url = server.url
        self.headers = {"Authorization": f"Bearer {token}"}
        self.document: dict[str, Any] = httpx.get(
            f"{self.url}/api/v1/openapi.json", headers=self.headers, timeout=60
        ).json()
        self.schema = schemathesis.openapi.from_dict(self.document)
        self.schema.config.update(base_url=self.url)
        self.jobs: dict[str, str] = {}
        from schemathesis.checks import CHECKS

        self.checks = [check for check in CHECKS.get_all() if check.__name__ in _CHECKS]
        assert len(self.checks) == len(_CHECKS)

    def run(self, folder: Path, client: ServerClient, line: str) -> RemoteHandle:
        """Submit a job about a line."""
        (folder / f"{line}.txt").write_text(f"{line}\n")
        job = job_of_class(Talking, {"gate": str(folder / "gate")})
        options = job.resolve(JobOptions(max_attempts=2, reducers=1), folder / f"out-{line}")
        return submit_to(client, job, [str(folder / f"{line}.txt")], folder / f"out-{line}", options)

    def operations(self) -> list[Any]:
        """All that can be called and come to an end by themselves: the events of a job go on as long as it does."""
        found = [operation.ok() for operation in self.schema.get_all_operations()]
        assert _ENDLESS in {operation.path for operation in found}
        return [operation for operation in found if operation.path != _ENDLESS]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    data_dir, folder = tmp_path_factory.mktemp("server"), tmp_path_factory.mktemp("jobs")
    with Server(ServeSettings(port=0, data_dir=data_dir, executors=1)) as server:
        token = (data_dir / "token").read_text().strip()
        client = ServerClient(server.url, token)
        asked = Asked(server, token)
        good, bad = asked.run(folder, client, "good"), asked.run(folder, client, "bad")
        good.finish(60)
        with pytest.raises(JobFailed):
            bad.finish(60)
        waits = asked.run(folder, client, "wait")
        asked.jobs = {"succeeded": good.job_id, "failed": bad.job_id, "running": waits.job_id}
        yield asked
        (folder / "gate").touch()


def test_each_route_is_described_with_its_answers(asked: Asked) -> None:
    for path, item in asked.document["paths"].items():
        for method, operation in item.items():
            assert operation["description"], (method, path)
            assert any(status.startswith("2") for status in operation["responses"]), (method, path)
            for status in ("400", "401", "403", "405"):
                problem = operation["responses"][status]["content"]["application/problem+json"]["schema"]
                assert problem == {"$ref": "#/components/schemas/Problem"}, (method, path)
            if "{" in path:
                assert "404" in operation["responses"], (method, path)


def test_all_that_is_referred_to_is_there(asked: Asked) -> None:
    def refer(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            yield from ([value["$ref"]] if isinstance(value.get("$ref"), str) else [])
            for one in value.values():
                yield from refer(one)
        elif isinstance(value, list):
            for one in value:
                yield from refer(one)

    for name in set(refer(asked.document)):
        found: Any = asked.document
        for part in name.removeprefix("#/").split("/"):
            assert part in found, name
            found = found[part]


def test_the_page_for_people_names_every_route(asked: Asked) -> None:
    page = httpx.get(f"{asked.url}/api/v1/docs", headers=asked.headers, timeout=60)
    assert page.headers["content-type"].startswith("text/html")
    for path in asked.document["paths"]:
        assert path in page.text
    assert "http://" not in page.text.replace(asked.url, "").replace("http://www.w3.org/", "")


def test_what_is_answered_of_real_jobs_is_as_described(asked: Asked) -> None:
    answered: dict[tuple[str, str], int] = {}
    for operation in asked.operations():
        if operation.method == "get" and "{job}" in operation.path:
            for state, job in asked.jobs.items():
                case = operation.Case(path_parameters={"job": job, "task": "0-0"})
                answer = case.call_and_validate(headers=asked.headers, checks=asked.checks, timeout=60)
                answered[operation.path.rpartition("/")[2], state] = answer.status_code
                if "/attempts" in operation.path and state == "failed":
                    assert [row["failure"]["exception"] for row in answer.json()["attempts"]] == ["ValueError"] * 2
                if "/logs" in operation.path and state != "running":
                    assert any("a line: " in log["text"] for log in answer.json()["logs"])
                    part = {"attempt": answer.json()["logs"][0]["attempt"]}
                    case = operation.Case(path_parameters={"job": job}, query=part)
                    case.call_and_validate(headers=asked.headers, checks=asked.checks, timeout=60)
                if operation.path.endswith("/result"):
                    assert answer.status_code == 200 or state != "succeeded"
    refused = {key for key, status in answered.items() if status != 200}
    assert refused == {("result", "failed"), ("result", "running")}


def test_methods_that_are_none_are_refused_as_described(asked: Asked) -> None:
    with httpx.Client(base_url=asked.url, headers=asked.headers, timeout=60) as client:
        for path, item in asked.document["paths"].items():
            for method in {"get", "post", "put", "patch", "delete"} - item.keys():
                answer = client.request(method, re.sub(r"{\w+}", "0-0", path))
                assert answer.status_code == 405, (method, path)
                assert answer.headers["content-type"] == "application/problem+json"


def _ask_all(asked: Asked, examples: int, phases: tuple[Phase, ...], mode: str) -> Counter[str]:
    """Ask each operation for whatever its description allows, or for what it does not; how often, by operation."""
    from schemathesis import GenerationMode

    tried: Counter[str] = Counter()  # by operation
    jobs = ("", *asked.jobs.values())
    for operation in asked.operations():

        @given(case=operation.as_strategy(generation_mode=GenerationMode(mode)), job=strategies.sampled_from(jobs))
        @settings(
            max_examples=examples, deadline=None, database=None, derandomize=True, phases=phases,
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        def ask(case: Any, job: str) -> None:
            if job and "job" in (case.path_parameters or {}):
                case.path_parameters["job"] = job
            if isinstance(case.query, dict):
                case.query.pop("wait", None)  # up to half a minute
            case.call_and_validate(headers=asked.headers, checks=asked.checks, timeout=60)
            tried[case.operation.label] += 1

        try:
            ask()
        except Unsatisfiable:  # it takes nothing that could be wrong
            assert mode == "negative" and not operation.path_parameters and not operation.query, operation.label
    assert len(tried) >= 15, tried
    return tried


@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_no_answer_is_undocumented_and_no_call_breaks_the_server(asked: Asked, mode: str) -> None:
    _ask_all(asked, 2, (Phase.generate,), mode)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_no_answer_is_undocumented_at_length(
    asked: Asked, mode: str, record_property: Callable[[str, object], None]
) -> None:
    tried = _ask_all(asked, 300, (Phase.generate, Phase.shrink), mode)
    record_property("note", f"{tried.total():,} calls of {len(tried)} operations, {mode} by their description")
