"""Replies that never arrive: a client asks again, and it is one job with one output all the same."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from gristmill import MapReduce
from gristmill.api.loading import job_of_class
from gristmill.api.remote import submit
from gristmill.config import JobOptions
from gristmill.service.server import Server, ServeSettings

PATIENCE = 60.0


class Words(MapReduce):
    """Counts words."""

    def mapper(self, _: None, line: str) -> Iterator[tuple[str, int]]:
        yield line, 1

    def reducer(self, word: str, counts: Iterator[int]) -> Iterator[tuple[str, int]]:
        yield word, sum(counts)


class LossyProxy:
    """Forwards every call, and keeps the answers to the first ``losses`` submissions to itself."""

    def __init__(self, target: str, losses: int) -> None:
        self.statuses: list[int] = []  # what the server answered to submissions, told or not
        proxy, address = self, urlsplit(target).netloc

        class Handler(BaseHTTPRequestHandler):
            def _forward(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"] or 0))
                with closing(http.client.HTTPConnection(address, timeout=PATIENCE)) as connection:
                    connection.request(self.command, self.path, body, dict(self.headers.items()))
                    answer = connection.getresponse()
                    data = answer.read()
                if self.command == "POST" and self.path == "/api/v1/jobs":
                    proxy.statuses.append(answer.status)
                    if len(proxy.statuses) <= losses:
                        self.close_connection = True
                        return
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.headers.get("Content-Type", ""))
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PUT = _forward

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(PATIENCE)


@contextmanager
def lossy(target: str, losses: int) -> Iterator[LossyProxy]:
    proxy = LossyProxy(target, losses)
    try:
        yield proxy
    finally:
        proxy.close()


@pytest.mark.parametrize("losses", [pytest.param(1, marks=pytest.mark.soak), 4])
def test_a_submission_whose_reply_is_lost_is_one_job_with_one_output(tmp_path: Path, losses: int) -> None:
    data_dir = tmp_path / "data"
    (tmp_path / "words.txt").write_text("a\nb\na\n")
    settings = ServeSettings(port=0, data_dir=data_dir, executors=1, memory_bytes=256 << 20)
    with Server(settings) as server, lossy(server.url, losses) as proxy:
        options = JobOptions(on=proxy.url, data_dir=data_dir)
        handle = submit(job_of_class(Words), [str(tmp_path / "words.txt")], tmp_path / "out", options)
        assert len(proxy.statuses) > losses
        assert proxy.statuses.count(201) >= 1
        handle.wait(timeout=PATIENCE)
        assert [status.view.job for status in server.jobs.all()] == [handle.job_id]
    written = sorted(path.read_text() for path in (tmp_path / "out").glob("part-*"))
    assert "".join(written) == "a\t2\nb\t1\n"
    beside = {path.name for path in tmp_path.iterdir()}
    assert beside == {"data", "out", "words.txt"}, "no staging folder, no probe"
