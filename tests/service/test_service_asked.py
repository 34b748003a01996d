"""What was asked for with a job is told of it: by REST, on its page and by ``gristmill status``; but no secrets."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner
from operations_kit import ask, finish

from gristmill.api.asked import Asked
from gristmill.cli.status import status
from gristmill.service.server import Server, ServeSettings
from gristmill.service.submission.wishes import JobWish


def test_secrets_are_left_out() -> None:
    wish = JobWish(
        job="wordcount",
        inputs=["s3://AKIA:hidden@bucket/in?endpoint_override=http://u:hidden@h", "/data/in.txt", *["x"] * 200],
        output="/data/out",
        params={
            "db_password": "hidden",
            "aws_access_key": "hidden",
            "privateKey": "hidden",
            "url": "https://ann:hidden@example.org/x",
            "limit": 3,
            "ok": None,
        },
    )
    asked = Asked.of_wish(wish.model_dump())
    assert "hidden" not in json.dumps(asked.to_json())
    assert asked.params == {
        "db_password": "…",
        "aws_access_key": "…",
        "privateKey": "…",
        "url": "https://example.org/x",
        "limit": 3,
        "ok": None,
    }
    assert (len(asked.inputs), asked.more_inputs, asked.inputs[1]) == (100, 102, "/data/in.txt")
    assert asked.options == {} and Asked.from_json(json.loads(json.dumps(asked.to_json()))) == asked


def test_it_is_told_of_jobs_that_wait_run_and_are_over(tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("a b a\n")
    with Server(ServeSettings(port=0, data_dir=tmp_path / "data", executors=1)) as server:
        wanted = {
            "job": "grep",
            "inputs": [str(words)],
            "output": str(tmp_path / "out"),
            "params": {"pattern": "a"},
            "options": {"split_size": "1MiB", "max_bad_records": 7, "speculation": False},
        }
        job = ask(server, "POST", "/api/v1/jobs", wanted).json["id"]
        assert finish(server, job) == "succeeded"
        found = ask(server, "GET", f"/api/v1/jobs/{job}").json
        assert found["inputs"] == [str(words)] and found["more_inputs"] == 0
        assert found["params"] == {"pattern": "a"}
        assert found["options"] == {"split_size": 1 << 20, "max_bad_records": 7, "speculation": False}
        assert found["submitted"] <= found["begun"] <= found["ended"]
        page = ask(server, "GET", f"/jobs/{job}").body.decode()
        assert "What was asked for" in page
        assert f"<code>{words}</code>" in page and "<code>pattern = a</code>" in page
        told = CliRunner().invoke(
            status,
            [job, "--server", server.url, "--token-file", str(server.token_file)],
            catch_exceptions=False,
        )
        assert f"Inputs: {words}\n" in told.output and "Parameters: pattern=a\n" in told.output, told.output
        assert "Options: split_size=1048576, max_bad_records=7, speculation=False\n" in told.output
