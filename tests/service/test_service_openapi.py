"""The OpenAPI document of a real server: what it says is what is answered, whatever is asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings, strategies

from gristmill.service.server import Server, ServeSettings

pytestmark = pytest.mark.filterwarnings("ignore")  # of schemathesis and its libraries

_CHECKS = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance")


class Asked:
    """A server, and its document as schemathesis reads it."""

    def __init__(self, server: Server, token: str) -> None:
        import schemathesis  # takes its time: not in every process that collects tests

        self.url = server.url
        self.headers = {"Authorization": f"Bearer {token}"}
        self.document: dict[str, Any] = httpx.get(f"{self.url}/api/v1/openapi.json", headers=self.headers).json()
        self.schema = schemathesis.openapi.from_dict(self.document)
        self.schema.config.update(base_url=self.url)
        self.job = ""

    def operations(self) -> list[Any]:
        """All that can be called."""
        return [found.ok() for found in self.schema.get_all_operations()]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    data_dir = tmp_path_factory.mktemp("server")
    (data_dir / "in.txt").write_text("a b\n")
    with Server(ServeSettings(port=0, data_dir=data_dir)) as server:
        asked = Asked(server, (data_dir / "token").read_text().strip())
        wish = {"job": "wordcount", "inputs": [str(data_dir / "in.txt")], "output": str(data_dir / "out")}
        answer = httpx.post(f"{asked.url}/api/v1/jobs", json=wish, headers=asked.headers)
        asked.job = answer.json()["id"]  # there are no workers, so that it goes on
        yield asked


def test_each_route_is_described_with_its_answers(asked: Asked) -> None:
    for path, item in asked.document["paths"].items():
        for method, operation in item.items():
            assert operation["description"], (method, path)
            assert any(status.startswith("2") for status in operation["responses"]), (method, path)
            if path != "/livez":
                problem = operation["responses"]["401"]["content"]["application/problem+json"]["schema"]
                assert problem == {"$ref": "#/components/schemas/Problem"}, (method, path)
            if "{" in path and method == "get":
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
    page = httpx.get(f"{asked.url}/api/v1/docs", headers=asked.headers)
    assert page.headers["content-type"].startswith("text/html")
    for path in asked.document["paths"]:
        assert path in page.text
    assert "http://" not in page.text.replace(asked.url, "").replace("http://www.w3.org/", "")


def _ask_all(asked: Asked, examples: int, phases: tuple[Phase, ...]) -> None:
    """Ask each operation for whatever its description allows, and for some that it does not."""
    from schemathesis.checks import CHECKS

    checks = [check for check in CHECKS.get_all() if check.__name__ in _CHECKS]
    assert len(checks) == len(_CHECKS)
    for operation in asked.operations():
        if operation.path.endswith("/events"):
            continue  # it goes on as long as a job does: see the tests of events

        @given(case=operation.as_strategy(), real=strategies.booleans())
        @settings(
            max_examples=examples, deadline=None, database=None, derandomize=True, phases=phases,
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        def ask(case: Any, real: bool) -> None:
            if real and "job" in (case.path_parameters or {}):
                case.path_parameters["job"] = asked.job
            (case.query or {}).pop("wait", None)  # up to half a minute
            case.call_and_validate(headers=asked.headers, checks=checks, timeout=20)

        ask()


def test_no_answer_is_undocumented_and_no_call_breaks_the_server(asked: Asked) -> None:
    _ask_all(asked, 3, (Phase.generate,))


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_no_answer_is_undocumented_at_length(asked: Asked) -> None:
    _ask_all(asked, 300, (Phase.generate, Phase.shrink))
