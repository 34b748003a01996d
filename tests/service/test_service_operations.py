"""What a server shows those who run it, by a real one: metrics, traces, facts as lines, notices, and run events."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from operations_kit import Heard, ask, finish, mail_server, web_server, write_job
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from gristmill.cli.main import main
from gristmill.runtime.journal.journal import JOURNAL, Journal
from gristmill.service.looking.history import Histories
from gristmill.service.operations import OperationSettings
from gristmill.service.server import Server, ServeSettings
from gristmill.service.telling.notices import Mail, Webhook

SECRET = "whsec_" + base64.b64encode(b"a secret of ours").decode()
JOB = """
import time

from gristmill import MapReduce

class Count(MapReduce):
    def mapper(self, _, line):
        for word in line.split():
            if word == "boom":
                raise ValueError("a bad word")
            if word == "slow":
                time.sleep(1.5)
            yield word, 1

    def reducer(self, word, counts):
        yield word, sum(counts)
"""


@dataclass
class Ran:
    """A server, what it ran, and what it told of that."""

    server: Server
    heard: Heard
    good: str
    bad_records: str
    failed: str
    late: str


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    folder, heard = tmp_path_factory.mktemp("operations"), Heard()
    with ExitStack() as stack:
        web, smtp = stack.enter_context(web_server(heard)), stack.enter_context(mail_server(heard))
        operations = OperationSettings(
            webhook=Webhook.parse(f"{web}/hook", SECRET),
            mail=Mail.parse(smtp, "", "mill@example.org", ("ann@example.org", "bob@example.org")),
            openlineage=f"{web}/lineage",
            public_url="https://mill.example.org/grist/",
        )
        settings = ServeSettings(port=0, data_dir=folder / "data", executors=1, operations=operations)
        server = stack.enter_context(Server(settings))
        jobs = [_run(server, folder, name) for name in ("good", "bad_records", "failed", "late")]
        assert [finish(server, job) for job in jobs] == ["succeeded", "succeeded", "failed", "succeeded"]
        give_up = time.monotonic() + 60
        while not {b'{state="succeeded"} 3.0', b'{state="failed"} 1.0'} <= _ended(server):
            assert time.monotonic() < give_up, _ended(server)
            time.sleep(0.02)
        yield Ran(server, heard, *jobs)


def _ended(server: Server) -> set[bytes]:
    """What the metrics say of jobs that are over."""
    head = b"gristmill_jobs_ended_total"
    lines = ask(server, "GET", "/metrics").body.splitlines()
    return {line.removeprefix(head) for line in lines if line.startswith(head)}


def _run(server: Server, folder: Path, name: str) -> str:
    """Submit a job; its id."""
    words = folder / f"{name}.txt"
    words.write_text("a b a\n" * 50 + {"good": "", "late": "slow\n"}.get(name, "boom\n"))
    job = write_job(folder / f"{name}.py", JOB)
    options = {"bad_records": ["--max-bad-records", "5"], "late": ["--deadline", "1s"]}.get(
        name, ["--max-attempts", "2"]
    )
    arguments = [job, str(words), "-o", str(folder / f"{name}-out"), "--server", server.url, *options]
    token = ["--token-file", str(server.token_file)]
    before = {one["id"] for one in ask(server, "GET", "/api/v1/jobs").json["jobs"]}
    assert main(["submit", *arguments, *token]) == 0
    (new,) = {one["id"] for one in ask(server, "GET", "/api/v1/jobs").json["jobs"]} - before
    return str(new)


def _families(text: str) -> dict[str, Any]:
    return {family.name: family for family in parse_text(text)}


def _samples(families: dict[str, Any]) -> dict[tuple[str, ...], float]:
    found = {}
    for family in families.values():
        for sample in family.samples:
            found[(sample.name, *(f"{name}={value}" for name, value in sorted(sample.labels.items())))] = sample.value
    return found


# Metrics


def test_metrics_count_what_the_jobs_did(ran: Ran) -> None:
    answer = ask(ran.server, "GET", "/metrics")
    assert answer.status == 200 and answer.headers["Content-Type"].startswith("text/plain")
    found = _samples(_families(answer.body.decode()))
    assert found["gristmill_jobs", "state=succeeded"] == 3 and found["gristmill_jobs", "state=failed"] == 1
    assert found["gristmill_jobs_ended_total", "state=succeeded"] == 3
    assert found[("gristmill_jobs_submitted_total",)] == 4 and found[("gristmill_jobs_late_total",)] == 1
    assert found["gristmill_bad_records_total", "job_name=Count"] == 1
    assert found["gristmill_attempt_failures_total", "kind=UserCodeError"] == 2
    assert found["gristmill_attempts_total", "outcome=failed"] == 2
    assert found["gristmill_attempts_total", "outcome=done"] == 6
    assert found[("gristmill_task_retries_total",)] == 1
    assert found[("gristmill_input_records_total",)] == 152
    assert found[("gristmill_output_records_total",)] >= 7
    assert found[("gristmill_input_bytes_total",)] == 50 * 6 * 3 + 5 + 5
    assert found[("gristmill_shuffle_bytes_total",)] > 0
    assert found["gristmill_task_duration_seconds_count", "reads=input"] == 3
    assert found["gristmill_task_duration_seconds_bucket", "le=+Inf", "reads=shuffle"] == 3
    assert found[("gristmill_task_wait_seconds_count",)] == 8
    assert found[("gristmill_job_queue_wait_seconds_count",)] == 4
    assert found["gristmill_job_duration_seconds_count", "state=failed"] == 1
    assert found["gristmill_workers", "state=up"] == 1
    assert sum(value for key, value in found.items() if key[0] == "gristmill_worker_slots") == 1
    assert found["gristmill_http_requests_total", "method=GET", "route=/api/v1/jobs/{job}", "status=200"] >= 3
    assert found[("gristmill_journal_size_bytes",)] > 0 and found[("process_resident_memory_bytes",)] > 0


def test_a_job_that_was_late_is_shown_as_such(ran: Ran) -> None:
    for job, late in ((ran.late, True), (ran.good, False)):
        assert ask(ran.server, "GET", f"/api/v1/jobs/{job}").json["late"] is late
        assert (b'class="state late"' in ask(ran.server, "GET", f"/jobs/{job}").body) is late


def test_names_of_metrics_follow_the_rules(ran: Ran) -> None:
    families = _families(ask(ran.server, "GET", "/metrics").body.decode())
    assert len(families) > 30
    for name, family in families.items():
        assert re.fullmatch(r"(gristmill|process)_[a-z0-9_]+", name), name
        assert family.documentation.endswith("."), name
        if name.startswith("process_"):
            continue  # the library's
        assert family.type in ("counter", "gauge", "histogram"), name
        assert not re.search(r"_(total|count|sum|bucket|ms|millis|minutes|kb|mb|percent)$", name), name
        if family.type == "histogram":
            assert name.endswith("_seconds"), name
        for sample in family.samples:
            assert (family.type == "counter") == sample.name.endswith("_total"), sample.name
            assert not {"job", "job_id", "id", "task", "attempt"} & set(sample.labels), sample.name
            assert ran.good not in str(sample.labels)


def test_metrics_come_as_openmetrics_too(ran: Ran) -> None:
    answer = ask(ran.server, "GET", "/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    text = answer.body.decode()
    assert text.endswith("# EOF\n")
    assert {family.name for family in parse_openmetrics(text)} >= {"gristmill_jobs", "gristmill_attempts"}


def test_calls_to_nowhere_and_refused_ones_are_counted_together(ran: Ran) -> None:
    for path in ("/nowhere/1", "/nowhere/2"):
        assert ask(ran.server, "GET", path).status == 404
    assert ask(ran.server, "GET", "/metrics", Authorization="Bearer wrong").status == 401
    text = ask(ran.server, "GET", "/metrics").body.decode()
    assert "nowhere" not in text
    found = _samples(_families(text))
    assert found["gristmill_http_requests_total", "method=GET", "route=none", "status=404"] >= 2
    assert found["gristmill_http_requests_total", "method=GET", "route=none", "status=401"] >= 1


def test_each_query_of_the_dashboard_names_metrics_that_there_are(ran: Ran) -> None:
    dashboard = json.loads((Path(__file__).parents[2] / "docs" / "grafana" / "gristmill.json").read_text())
    there = set()
    for family in _families(ask(ran.server, "GET", "/metrics").body.decode()).values():
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
        there |= {family.name + suffix for suffix in suffixes}
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    queries += [one["query"]["query"] for one in dashboard["templating"]["list"] if one["type"] == "query"]
    assert len(queries) > 20
    named = {name for query in queries for name in re.findall(r"\b(?:gristmill|process)_[a-z_]+", query)}
    assert named <= there
    metrics = {name.rsplit("_bucket", 1)[0] for name in named}
    assert len(metrics) > 25  # nearly all that there are
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))


# Traces


def _check_trace(trace: dict[str, Any]) -> list[dict[str, Any]]:
    """See that this is what trace viewers read: see the format's own description."""
    events: list[dict[str, Any]] = trace["traceEvents"]
    named = {(event["pid"], event["tid"]) for event in events if event["name"] == "thread_name"}
    for event in events:
        assert event["ph"] in ("X", "M", "i", "C"), event
        assert isinstance(event["ts"], int) and event["ts"] >= 0, event
        assert isinstance(event["pid"], int) and isinstance(event["tid"], int) and event["name"], event
        if event["ph"] == "X":
            assert event["dur"] >= 1 and (event["pid"], event["tid"]) in named, event
        if event["ph"] == "i":
            assert event["s"] in ("t", "p", "g")
        if event["ph"] == "C":
            assert all(value >= 0 for value in event["args"].values())
    times = [event["ts"] for event in events if event["ph"] != "M"]
    assert times == sorted(times)
    return events


def test_a_job_comes_as_a_trace(ran: Ran) -> None:
    answer = ask(ran.server, "GET", f"/api/v1/jobs/{ran.failed}/trace")
    assert answer.status == 200 and "attachment" in answer.headers["Content-Disposition"]
    trace = answer.json
    events = _check_trace(trace)
    assert trace["otherData"]["job"] == ran.failed
    attempts = [event for event in events if event.get("cat", "").startswith("attempt")]
    assert [event["args"]["state"] for event in attempts] == ["failed", "failed"]
    assert attempts[0]["args"]["error"] == "UserCodeError"
    assert len({(event["pid"], event["tid"]) for event in attempts}) == 1  # one worker with one slot
    assert sum(event.get("cat") == "failure" for event in events) == 2
    good = _check_trace(ask(ran.server, "GET", f"/api/v1/jobs/{ran.good}/trace").json)
    states = [event["args"]["state"] for event in good if event.get("cat", "").startswith("attempt")]
    assert states == ["done", "done"]
    assert {event["name"] for event in good if event.get("cat") == "stage"} == {"0 map", "1 reduce"}
    assert ask(ran.server, "GET", "/api/v1/jobs/20200101-000000-aaaa/trace").status == 404


# Facts


def test_facts_come_as_lines_from_the_server_and_from_its_journal(
    ran: Ran, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = [json.loads(line) for line in ask(ran.server, "GET", "/api/v1/events").body.splitlines()]
    assert [event["number"] for event in whole] == sorted(event["number"] for event in whole)
    assert {event["job"] for event in whole} == {"", ran.good, ran.bad_records, ran.failed, ran.late}
    assert {"job accepted", "task done", "attempt over", "job ended", "worker joined"} <= {one["kind"] for one in whole}
    assert "ticket" not in json.dumps(whole)
    rest = ask(ran.server, "GET", f"/api/v1/events?after={whole[3]['number']}&limit=5").body.splitlines()
    assert [json.loads(line) for line in rest] == whole[4:9]

    data_dir = str(ran.server.token_file.parent)
    assert main(["events", "export", "--data-dir", data_dir]) == 0
    exported = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert exported[: len(whole)] == whole
    target = tmp_path / "events.jsonl"
    assert main(["events", "export", ran.good, "-o", str(target), "--data-dir", data_dir]) == 0
    one = [json.loads(line) for line in target.read_text().splitlines()]
    assert one == [event for event in whole if event["job"] == ran.good]
    token = ["--server", ran.server.url, "--token-file", str(ran.server.token_file)]
    assert main(["events", "export", ran.good, *token]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == one


def test_a_trace_is_written_from_the_server_and_from_its_journal(ran: Ran, tmp_path: Path) -> None:
    there = ask(ran.server, "GET", f"/api/v1/jobs/{ran.good}/trace").json
    data_dir = str(ran.server.token_file.parent)
    token = ["--server", ran.server.url, "--token-file", str(ran.server.token_file)]
    for number, options in enumerate((["--data-dir", data_dir], token)):
        target = tmp_path / f"{number}.json"
        assert main(["trace", ran.good, "-o", str(target), *options]) == 0
        assert json.loads(target.read_text()) == there


def test_a_job_that_is_not_known_is_said_to_be_so(ran: Ran, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here = ["--data-dir", str(ran.server.token_file.parent)]
    there = ["--server", ran.server.url, "--token-file", str(ran.server.token_file)]
    target = tmp_path / "none.json"
    for command in (["events", "export"], ["trace", "-o", str(target)]):
        for options in (here, there):
            assert main([*command, *options, "20200101-000000-aaaa"]) != 0
            assert "20200101-000000-aaaa" in capsys.readouterr().err
    assert not target.exists()


# Who is told


def test_what_fails_and_what_is_late_is_posted_once_and_signed(ran: Ran) -> None:
    ran.heard.wait(calls=10)
    calls = [call for call in ran.heard.calls if call.path == "/hook"]
    failed, late = (json.loads(call.body) for call in sorted(calls, key=lambda call: b"job.late" in call.body))
    assert failed["type"] == "job.failed" and failed["job"]["id"] == ran.failed
    assert failed["job"]["state"] == "failed" and "a bad word" in failed["job"]["error"]
    assert failed["link"].endswith(f"/jobs/{ran.failed}")
    assert late["type"] == "job.late" and late["job"]["id"] == ran.late
    assert (late["job"]["deadline_seconds"], late["job"]["error"]) == (1.0, None)
    for call in calls:
        headers = {name.lower(): value for name, value in call.headers.items()}
        assert headers["webhook-id"] == json.loads(call.body)["id"]
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + call.body
        expected = base64.b64encode(hmac.new(b"a secret of ours", signed, hashlib.sha256).digest()).decode()
        assert headers["webhook-signature"] == f"v1,{expected}"


def test_what_fails_and_what_is_late_is_mailed_once(ran: Ran) -> None:
    ran.heard.wait(mails=2)
    failed, late = sorted(ran.heard.mails, key=lambda mail: "deadline" in mail["Subject"])
    assert failed["Subject"] == f"[Gristmill] Count failed ({ran.failed})"
    assert late["Subject"] == f"[Gristmill] Count has outlived its deadline ({ran.late})"
    assert failed["From"] == "mill@example.org" and failed["X-Recipients"] == "ann@example.org, bob@example.org"
    text = failed.get_content()
    assert "a bad word" in text and f"https://mill.example.org/grist/jobs/{ran.failed}" in text.split()


def test_runs_are_told_as_openlineage_events(ran: Ran) -> None:
    ran.heard.wait(calls=10)
    events = ran.heard.bodies("/lineage")
    assert Counter(event["eventType"] for event in events) == {"COMPLETE": 3, "FAIL": 1, "START": 4}
    for event in events:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event["eventTime"])
        assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", event["run"]["runId"])
        assert event["job"]["name"] == "Count" and event["schemaURL"].endswith("#/$defs/RunEvent")
        (read,), (made,) = event["inputs"], event["outputs"]
        assert read["namespace"] == made["namespace"] == "file"
        assert read["name"].endswith(".txt") and made["name"].endswith("-out")
    runs = [event["run"]["runId"] for event in events]
    assert all(runs.count(run) == 2 for run in runs)


def test_what_the_page_shows_is_what_the_journal_says(ran: Ran) -> None:
    journal = Journal(ran.server.token_file.parent / JOURNAL)
    there, here = Histories(journal).of(ran.failed), ran.server.jobs.histories.of(ran.failed)
    assert there is not None and here is not None and there is not here
    assert (there.attempts, there.stages, there.begun_at) == (here.attempts, here.stages, here.begun_at)
    assert there.ended is not None and here.ended is not None
    assert there.ended.outcome.to_json() == here.ended.outcome.to_json()
