"""A job that is forgotten is forgotten everywhere, with its key; also by the server that ran it, while it runs."""

from __future__ import annotations

from pathlib import Path

from operations_kit import ask, finish

from gristmill.runtime.journal.forgetting import KeepHistory
from gristmill.service.operations import HistoryKeeper, OperationSettings
from gristmill.service.server import Server, ServeSettings


def test_nothing_is_left_of_a_job_that_is_forgotten(tmp_path: Path) -> None:
    words, data_dir = tmp_path / "words.txt", tmp_path / "data"
    words.write_text("a b a\n")
    keep = OperationSettings(keep=KeepHistory(None, None))
    with Server(ServeSettings(port=0, data_dir=data_dir, operations=keep)) as server:

        def submit(key: str) -> str:
            wanted = {"job": "wordcount", "inputs": [str(words)], "output": str(tmp_path / f"out-{key}")}
            answer = ask(server, "POST", "/api/v1/jobs", wanted, **{"Idempotency-Key": key})
            assert answer.status in (200, 201, 202), answer
            return str(answer.json["id"])

        over, waits = submit("over"), submit("waits")
        assert submit("over") == over
        assert ask(server, "POST", f"/api/v1/jobs/{over}/cancel").status == 202
        assert finish(server, over) == "cancelled"
        server.jobs.histories.of(over)
        journal = server.jobs.histories.journal
        keeper = HistoryKeeper(
            journal, KeepHistory(0.0, None), data_dir, server.jobs.histories, gone=server.coordinator.forget_jobs
        )
        assert keeper.forget() == [over]
        for path in ("", "/tasks", "/trace", "/logs"):
            assert ask(server, "GET", f"/api/v1/jobs/{over}{path}").status == 404, path
        assert [one["id"] for one in ask(server, "GET", "/api/v1/jobs").json["jobs"]] == [waits]
        assert over.encode() not in ask(server, "GET", "/api/v1/events").body
        assert not (data_dir / "jobs" / over).exists()
        again = submit("over")
        assert again != over and submit("waits") == waits
        assert keeper.forget() == []
