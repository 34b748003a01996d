"""Calls a server as nobody should: too large, too slow, malformed, leading elsewhere. A program of its own.

``hostile_client.py HOST:PORT TOKEN JOB COUNT SEED PORT...``: the last are ports of the same host where other things
than HTTP are spoken; a tenth of the calls goes there, and whatever comes back counts as ``elsewhere``. It prints how
often there was which answer, as JSON; a connection that was closed without one counts as ``closed``.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

AT_ONCE = 60
ANSWER_SECONDS = 30.0
LORIS = 0.08  # of all calls: each holds its connection for some seconds
LORIS_SECONDS = 4.0

ODD = (
    "../../../etc/passwd", "..%2f..%2f..%2fetc%2fpasswd", "%2e%2e%2f%2e%2e%2fjournal.db", "..%5c..%5ctoken", "%00",
    "a%00b", "%ff%fe", "%0d%0aSet-Cookie:x=y", "%F0%9F%98%80", "." * 300, "a" * 5000, "..", ".", "-", "%20", "*",
    "0-0/../../..", "....//....//token", "file:%2f%2f%2fetc%2fpasswd", "'; DROP TABLE jobs; --".replace(" ", "%20"),
    "{{7*7}}", "$%7Bjndi:ldap:%2f%2fx%7D", "9999999999999999999999", "-1", "NaN", "%c0%ae%c0%ae%c0%af", "0x10", "１",
)  # fmt: skip
PLACES = (
    "/api/v1/jobs/{}", "/api/v1/jobs/{}/tasks", "/api/v1/jobs/JOB/tasks/{}/attempts", "/api/v1/jobs/{}/logs",
    "/api/v1/jobs/JOB/logs?attempt={}", "/api/v1/jobs/JOB/logs?task={}", "/api/v1/jobs/{}/result", "/static/{}",
    "/api/v1/jobs/JOB/result?part={}", "/api/v1/jobs/{}/events", "/api/v1/blobs/{}", "/api/v1/sessions/{}/kept/x/0",
    "/api/v1/sessions/x/kept/{}/0", "/api/v1/jobs?before={}", "/api/v1/jobs?limit={}", "/jobs/{}", "/{}",
    "/api/v1/jobs/{}/trace", "/api/v1/jobs/JOB/events?after={}", "/login?next={}",
)  # fmt: skip
POSTS = (
    "/api/v1/jobs/{}/cancel", "/api/v1/jobs/{}/retry", "/api/v1/jobs/{}/code", "/api/v1/sessions/{}/renew",
    "/api/v1/sessions/{}/jobs", "/jobs/{}/cancel", "/submit?{}",
)  # fmt: skip

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAMES = (
    b"", b"\x00\x00\x00\x04\x00\x00\x00\x00\x00",  # settings
    b"\xff\xff\xff\x01\x04\x00\x00\x00\x01" + b"x" * 20_000,  # headers of 16 MB, and of no form
    b"\x00\x00\x04\x03\x00\x00\x00\x00\x01\x00\x00\x00\x08" * 500,  # resets of streams that are none
    b"\x00\x00\x08\x06\x00\x00\x00\x00\x00" + b"ping" * 2, b"\x00\x00\x01\x00\x00\x00\x00\x00\x00x",
    b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x7f\xff\xff\xff" * 3,  # windows beyond their end
)  # fmt: skip
ELSEWHERE = 0.1

END = b"--x--\r\n"
NO_ZIP = b"PK\x05\x06" + b"\xff" * 18


def part(name: str, value: bytes, file: str = "") -> bytes:
    """A part of a form."""
    named = f'; filename="{file}"' if file else ""
    return f'--x\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'.encode() + value + b"\r\n"


class Attack:
    """The calls, drawn by a seed."""

    def __init__(self, host: str, token: str, job: str, seed: int) -> None:
        self._host = host
        self._token = token
        self._job = job
        self._random = random.Random(seed)
        self._kinds: tuple[Callable[[], bytes], ...] = (
            self.large_header, self.many_headers, self.claims_much, self.large_json, self.garbage, self.bad_json,
            self.deep_json, self.bad_form, self.odd_path, self.odd_path, self.odd_path, self.odd_path, self.odd_post,
            self.odd_method, self.smuggled, self.bad_chunks, self.wrong_blob, self.no_token, self.odd_wish,
        )  # fmt: skip

    def draw(self) -> tuple[bytes, bool, bool]:
        """A call, whether to send it slowly, and whether there may be less of it than it says."""
        kind = self._random.choice(self._kinds)
        unfinished = kind in (self.claims_much, self.garbage, self.bad_form, self.smuggled, self.bad_chunks)
        return kind(), self._random.random() < LORIS, unfinished

    def draw_elsewhere(self) -> tuple[bytes, bool]:
        """What is said where no HTTP/1 is spoken, and whether slowly."""
        data = self._random.choice(
            (
                PREFACE + self._random.choice(FRAMES) + self._random.choice(FRAMES),
                PREFACE + self._random.randbytes(3000),
                PREFACE[: self._random.randrange(len(PREFACE))],
                self.garbage(),
                self.odd_path(),
                b"",
            )
        )
        return data, self._random.random() < 2 * LORIS

    def is_elsewhere(self) -> bool:
        """Whether the next call goes there."""
        return self._random.random() < ELSEWHERE

    def _call(self, method: str, path: str, body: bytes = b"", *headers: str, token: str | None = None) -> bytes:
        lines = [f"{method} {path.replace('JOB', self._job)} HTTP/1.1", f"Host: {self._host}", "Connection: close"]
        lines += [f"Authorization: Bearer {self._token if token is None else token}", *headers]
        if not any(header.lower().startswith(("content-length", "transfer-encoding")) for header in headers):
            lines.append(f"Content-Length: {len(body)}")
        return "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + body

    def large_header(self) -> bytes:
        return self._call("GET", "/api/v1/jobs", b"", f"X-Large: {'x' * self._random.choice((40_000, 200_000))}")

    def many_headers(self) -> bytes:
        return self._call("GET", "/api/v1/jobs", b"", *(f"X-{n}: {n}" for n in range(5000)))

    def claims_much(self) -> bytes:
        length = self._random.choice(("99999999999", "9" * 60, "-1", "1e9", "0x10", "+5", "5, 6"))
        return self._call("POST", "/api/v1/jobs", b"{}", "Content-Type: application/json", f"Content-Length: {length}")

    def large_json(self) -> bytes:
        body = b'{"job": "' + b"x" * self._random.choice((100_000, 9 * 1024 * 1024)) + b'"}'
        return self._call("POST", "/api/v1/jobs", body, "Content-Type: application/json")

    def garbage(self) -> bytes:
        return self._random.choice(
            (
                self._random.randbytes(self._random.randrange(1, 4000)),
                b"\r\n\r\n\r\n",
                b"GET\r\n\r\n",
                b"GET / HTTP/9.9\r\n\r\n",
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
                b"GET / HTTP/1.1\r\n\r\n",
                f"GET / HTTP/1.1\r\nHost: {self._host}\r\nHost: {self._host}\r\n\r\n".encode(),
                f"GET http://169.254.169.254/ HTTP/1.1\r\nHost: {self._host}\r\n\r\n".encode(),
            )
        )

    def bad_json(self) -> bytes:
        body = self._random.choice(
            (b"{", b'{"job": ', b"\xff\xfe", b'"\\ud800"', b"NaN", b'{"inputs": [1e999]}', b"[" * 100, b"null", b"")
        )
        kind = self._random.choice(("application/json", "application/vnd.gristmill.job+json", "text/plain", ""))
        return self._call("POST", "/api/v1/jobs", body, f"Content-Type: {kind}")

    def deep_json(self) -> bytes:
        depth = self._random.choice((2000, 100_000))
        return self._call("POST", "/api/v1/jobs", b"[" * depth + b"]" * depth, "Content-Type: application/json")

    def bad_form(self) -> bytes:
        boundary, body = self._random.choice(
            (
                ("x", part("code", b"x", "../../x.py") + END),
                ("x", part("code", b"x", "a\0.py") + END),
                ("x", b"--x\r\nContent-Disposition: form-data\r\n\r\nx"),
                ("x", b"--x\r\n" + b"A: b\r\n" * 1000),
                ("x" * 500, b"--x"),
                ("", b"----"),
                ("x", part("inputs", b"y" * 2_000_000) + END),
                ("x", part("a", b"1") * 3000 + END),
                ("x", part("inputs", b"/etc") + part("output", b"/x") + part("code", NO_ZIP, "a.zip") + END),
                ("x", part("inputs", b"/etc") + part("output", b"/x") + part("code", b"PK", "a.exe") + END),
            )
        )
        place = self._random.choice(("/api/v1/jobs", "/submit"))
        return self._call("POST", place, body, f"Content-Type: multipart/form-data; boundary={boundary}")

    def odd_path(self) -> bytes:
        return self._call("GET", self._random.choice(PLACES).format(self._random.choice(ODD)))

    def odd_post(self) -> bytes:
        return self._call("POST", self._random.choice(POSTS).format(self._random.choice(ODD)), b"{}")

    def odd_method(self) -> bytes:
        method = self._random.choice(("TRACE", "CONNECT", "PATCH", "OPTIONS", "FOO", "get", "DELETE", "PUT", "X" * 500))
        return self._call(method, self._random.choice(("/api/v1/jobs", "/", "/livez", "*", "/api/v1/workers")))

    def smuggled(self) -> bytes:
        body = b"0\r\n\r\nGET /api/v1/jobs HTTP/1.1\r\nHost: x\r\n\r\n"
        headers = ("Content-Length: 5", "Transfer-Encoding: chunked")
        return self._call("POST", "/api/v1/jobs", body, *self._random.sample(headers, 2))

    def bad_chunks(self) -> bytes:
        body = self._random.choice(
            (b"zz\r\n", b"ffffffffffffffff\r\nx", b"5\r\nabc", b"-1\r\n\r\n", b"1;" + b"x" * 50_000)
        )
        return self._call("PUT", f"/api/v1/blobs/{'0' * 64}", body, "Transfer-Encoding: chunked")

    def wrong_blob(self) -> bytes:
        return self._call("PUT", f"/api/v1/blobs/{'0' * 64}", self._random.randbytes(50_000))

    def no_token(self) -> bytes:
        token = self._random.choice(("", "x", "x" * 10_000, "\udcff", f"{self._job}.x"))
        return self._call("GET", "/api/v1/jobs", b"", token=token)

    def odd_wish(self) -> bytes:
        wish = {"job": "wordcount", "inputs": ["/etc/hostname"], "output": "/proc/nowhere/at/all"}
        change = self._random.choice(
            (
                {"inputs": ["/\x00"]}, {"inputs": ["../../etc/passwd"]}, {"output": "/etc/passwd/x"}, {"inputs": []},
                {"options": {"reducers": 10**12}}, {"options": {"split_size": "9" * 39}}, {"params": {"a": {"b": 1}}},
                {"job": "os:system"}, {"job": "../x"}, {"output": "s3://"}, {"inputs": ["http://127.0.0.1:1/x"]},
                {"inputs": ["/" * 4000]}, {"inputs": ["/**/*" * 50]}, {"name": "\x1b[2J"}, {"deadline": "1e9"},
                {"priority": 10**30}, {"options": {"task_timeout": -1}},
                {"job": "grep", "params": {"pattern": "(" * 500}},
            )
        )  # fmt: skip
        body = json.dumps({**wish, **change}).encode()
        key = self._random.choice(("", "k", "k" * 5000, "\t"))
        return self._call("POST", "/api/v1/jobs", body, "Content-Type: application/json", f"Idempotency-Key: {key}")


async def call(host: str, data: bytes, slowly: bool, unfinished: bool) -> str:
    """Make one call; the status of the answer."""
    patient = not slowly and not unfinished
    name, _, port = host.rpartition(":")
    reader, writer = await asyncio.open_connection(name, int(port))
    try:
        if slowly:
            for place in range(4):
                writer.write(data[place * 7 : place * 7 + 7])
                await asyncio.sleep(LORIS_SECONDS / 4)
            writer.write(data[28 : max(28, len(data) // 2)])
        else:
            writer.write(data)
        with suppress(ConnectionError):
            await writer.drain()
        first = await asyncio.wait_for(reader.readline(), ANSWER_SECONDS if patient else LORIS_SECONDS)
        parts = first.split()
        return parts[1].decode() if len(parts) > 1 else "closed"
    except TimeoutError:
        return "no answer" if patient else "unfinished"
    except ConnectionError:
        return "closed"
    finally:
        writer.close()
        with suppress(Exception):
            await writer.wait_closed()


async def main(host: str, token: str, job: str, count: int, seed: int, *ports: int) -> None:
    attack = Attack(host, token, job, seed)
    answers: Counter[str] = Counter()
    failed: list[str] = []
    gate = asyncio.Semaphore(AT_ONCE)

    async def one() -> None:
        async with gate:
            elsewhere = bool(ports) and attack.is_elsewhere()
            if elsewhere:
                data, slowly = attack.draw_elsewhere()
                where, unfinished = f"{host.rpartition(':')[0]}:{ports[sum(answers.values()) % len(ports)]}", True
            else:
                (data, slowly, unfinished), where = attack.draw(), host
            try:
                status = await call(where, data, slowly, unfinished)
                status = "elsewhere" if elsewhere else status
            except OSError as error:
                status = f"cannot connect: {error.strerror}"
            answers[status] += 1
            if status.startswith("5") and status != "503" and len(failed) < 20:
                failed.append(f"{status}: {data[:500]!r}")

    await asyncio.gather(*(one() for _ in range(count)))
    print(json.dumps({"answers": answers, "failed": failed}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4], *map(int, sys.argv[4:])))
