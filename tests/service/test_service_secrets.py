"""Secrets within URLs: of what a job reads and writes, and of whom the server tells. They are shown nowhere."""

from __future__ import annotations

import json
import logging
import re
import time
from pathlib import Path

import httpx
import pytest
from operations_kit import Heard, web_server

from gristmill.cli.main import main
from gristmill.service.operations import OperationSettings
from gristmill.service.server import Server, ServeSettings
from gristmill.service.telling.notices import Webhook

SECONDS = 60.0
SECRET = "sesame"
CODE = b"def mapper(_, line):\n    yield line, 1\n"
GONE = "endpoint_override=127.0.0.1:9&scheme=http&attempts=1&connect_timeout=1s&request_timeout=1s&region=x"


def test_no_answer_page_log_or_notice_shows_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG, "gristmill")
    (tmp_path / "in.txt").write_text("a\n")
    heard = Heard()
    with web_server(heard) as told:
        told = told.replace("://", f"://me:{SECRET}@")
        settings = ServeSettings(
            port=0,
            data_dir=tmp_path / "data",
            executors=1,
            operations=OperationSettings(
                webhook=Webhook.parse(f"{told}/hook?key={SECRET}"), openlineage=f"{told}/lineage?key={SECRET}"
            ),
        )
        with Server(settings) as server:
            token = server.token_file.read_text().strip()
            headers = {"Authorization": f"Bearer {token}"}
            with httpx.Client(base_url=server.url, headers=headers, timeout=SECONDS) as client:
                place = f"s3://key:{SECRET}@bucket/in?{GONE}&role_arn={SECRET}"
                files = {"code": ("job.py", CODE)}
                wrong = {"inputs": place, "output": str(tmp_path / "out"), "job": "wordcount"}
                refused = client.post("/api/v1/jobs", data=wrong, files={"x": ("", "")})
                answers = [refused, client.post("/submit", data={**wrong, "key": "k"})]
                output = place.replace(f"key:{SECRET}", f"key:a/{SECRET}")
                asked = client.post(
                    "/api/v1/jobs", files=files, data={"inputs": str(tmp_path / "in.txt"), "output": output}
                )
                job = asked.json()["id"]
                give_up = time.monotonic() + 60
                while (found := client.get(f"/api/v1/jobs/{job}?wait=30").json())["state"] in ("queued", "running"):
                    assert time.monotonic() < give_up, found
                assert found["state"] == "failed" and "s3://bucket/in" in json.dumps(found), found
                heard.wait(calls=3)
                for path in (
                    "/", "/history", f"/jobs/{job}", "/metrics", "/api/v1/jobs", "/api/v1/workers",
                    *(f"/api/v1/jobs/{job}{more}" for more in ("", "/tasks", "/events", "/logs", "/result", "/trace")),
                ):  # fmt: skip
                    answers.append(client.get(path))
                options = ["--server", server.url, "--data-dir", str(tmp_path / "data")]
                for command in (["history", "--json"], ["jobs"], ["status", job], ["events", "export", "--json"]):
                    main([*command, *options])
    assert "write %2F" in json.dumps(found), found["error"]
    assert refused.status_code in (422, 404)
    for answer in answers:
        text = re.sub(r'<textarea id="(inputs|params)".*?</textarea>', "", answer.text)  # what was typed is there again
        assert SECRET not in text, (answer.request.url, text)
    assert {call.path.partition("?")[0] for call in heard.calls} == {"/hook", "/lineage"}
    assert not any(SECRET.encode() in call.body for call in heard.calls)
    assert SECRET not in caplog.text
    printed = capsys.readouterr()
    assert SECRET not in printed.out + printed.err and job in printed.out
