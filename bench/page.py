"""What the page costs a browser while a job of 5,000 tasks runs, and a server that 200 browsers look at.

    python bench/page.py [--smoke]

A server, two workers of four executors, and a job whose tasks wait (``bench/jobs/waiting.py``), all real. Chromium,
without a window, opens the job's page while it runs; its own counters say what each live update costs. Then 200
clients of the same page's events are opened from one process, each of which asks for the table of tasks as a page does:
what the server takes for them, and how long after the first of them the last one hears of the same change.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import data
import psutil
from cluster import Cluster, cluster
from kill_one import waits
from results import conclude, table, verdict
from settings import gristmill, job

LIMIT_MS = 200.0
_UP_SECONDS = 60.0
_TABLE_SECONDS = 2.0  # a page asks for its tasks so often at most
_ARGUMENTS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
_COUNTERS = ("ScriptDuration", "LayoutDuration", "RecalcStyleDuration", "TaskDuration")
# Counts updates and their bytes, and keeps the time at which each was worked in.
_WATCH = """() => {
  window.updates = 0; window.bytes = 0;
  document.addEventListener('htmx:sse:after:message', (event) => {
    if (event.detail.message.event) return;
    window.updates += 1; window.bytes += event.detail.message.data.length;
  });
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) window.longest = Math.max(window.longest ?? 0, entry.duration);
  }).observe({type: 'longtask'});
}"""


@dataclass(frozen=True)
class Size:
    """How large it is."""

    tasks: int = 5000
    task_seconds: float = 0.09
    watch_seconds: float = 15.0
    clients: int = 200


Message = tuple[float, int, int]
"""When it was whole, its size, and what tells it from others."""

SIZE = Size()
SMOKE = Size(tasks=400, task_seconds=0.3, watch_seconds=2.0, clients=5)


@dataclass
class Seen:
    """What a browser has measured."""

    paint_ms: float = 0.0
    loaded_ms: float = 0.0
    html_bytes: int = 0
    updates: int = 0
    update_bytes: float = 0.0
    longest_ms: float = 0.0
    per_update_ms: dict[str, float] = field(default_factory=dict)
    filter_ms: float = 0.0


@dataclass
class Heard:
    """What the clients have measured."""

    clients: int
    updates: int
    server_share: float
    idle_share: float
    spread_ms: float
    worst_ms: float
    mib_per_second: float


def section(size: Size = SIZE) -> tuple[str, str]:
    """Measure.

    Returns:
        The section for RESULTS.md, and why it cannot be believed; empty if it can.
    """
    source = waits(size.tasks, size.task_seconds)
    try:
        with cluster(2, 4, memory="512MiB") as made:
            seen = _while_it_runs(made, source, size, lambda job: look(made, job, size))
            heard = _while_it_runs(made, source, size, lambda job: asyncio.run(listen(made, job, size)))
    except RuntimeError as error:
        return "", f"The page: {error}"
    finally:
        source.unlink()
    if seen.updates < 2 or heard.updates < 2:
        return "", "The page: the job was over before anything was measured"
    return _text(seen, heard, size), ""


def _while_it_runs(made: Cluster, source: Path, size: Size, measure: Any) -> Any:
    """Submit the job, and measure when a fifth of it is done."""
    output = data.folder() / "out" / "page"
    output.parent.mkdir(exist_ok=True)
    shutil.rmtree(output, ignore_errors=True)
    where: list[str | Path] = ["--server", made.url, "--token-file", made.token_file, "-o", output]
    options = ["--split-size", "10", "--reducers", "8", "--set", "reducers=8", "--set", "reduce_seconds=0.1"]
    options += ["--set", "slow_worker=nobody", "--set", "times=1"]
    done = subprocess.run(gristmill("submit", job("waiting"), source, *where, *options), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    name = done.stdout.split()[-1]
    give_up = time.monotonic() + _UP_SECONDS
    while _done(made, name) < size.tasks // 5:
        if time.monotonic() > give_up:
            raise RuntimeError("the job does not come forward")
        time.sleep(0.1)
    try:
        return measure(name)
    finally:
        _ask(made, "POST", f"/api/v1/jobs/{name}/cancel")
        shutil.rmtree(output, ignore_errors=True)


def _ask(made: Cluster, method: str, path: str) -> bytes:
    token = made.token_file.read_text().strip()
    request = Request(made.url + path, method=method, headers={"Authorization": f"Bearer {token}"})
    with urlopen(request, timeout=_UP_SECONDS) as reply:
        return bytes(reply.read())


def _done(made: Cluster, name: str) -> int:
    return int(json.loads(_ask(made, "GET", f"/api/v1/jobs/{name}"))["map"]["done"])


def look(made: Cluster, name: str, size: Size) -> Seen:
    """Look at the job with a browser."""
    from playwright.sync_api import sync_playwright

    seen = Seen()
    token = made.token_file.read_text().strip()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=_ARGUMENTS)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(f"{made.url}/?token={token}")
        page.add_init_script(f"({_WATCH})()")
        counters = page.context.new_cdp_session(page)
        counters.send("Performance.enable")
        page.goto(f"{made.url}/jobs/{name}", wait_until="load")
        paint = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0"
        _until(page, f"{paint} > 0")
        seen.paint_ms = page.evaluate(paint)
        load = "performance.getEntriesByType('navigation')[0]"
        seen.loaded_ms = page.evaluate(f"{load}.domContentLoadedEventEnd")
        seen.html_bytes = page.evaluate(f"{load}.decodedBodySize")
        _until(page, "window.updates > 0")
        before, updates, sent = _counters(counters), *page.evaluate("[window.updates, window.bytes]")
        page.wait_for_timeout(size.watch_seconds * 1000)
        after, more, bytes_after = _counters(counters), *page.evaluate("[window.updates, window.bytes]")
        seen.updates = more - updates
        times = max(seen.updates, 1)
        seen.update_bytes = (bytes_after - sent) / times
        seen.per_update_ms = {key: 1000 * (after[key] - before[key]) / times for key in _COUNTERS}
        seen.longest_ms = page.evaluate("window.longest ?? 0")
        began = time.perf_counter()
        page.select_option("select[name=sort]", "slowest")
        page.wait_for_selector("input[name=shown][value*='slowest']", state="attached")
        seen.filter_ms = 1000 * (time.perf_counter() - began)
        browser.close()
    return seen


def _until(page: Any, expression: str) -> None:
    """Wait for it. The page's policy forbids that the browser itself does: that would be to evaluate text."""
    give_up = time.monotonic() + _UP_SECONDS
    while not page.evaluate(expression):
        if time.monotonic() > give_up:
            raise RuntimeError(f"{expression} does not come true")
        page.wait_for_timeout(20)


def _counters(session: Any) -> dict[str, float]:
    return {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}


async def listen(made: Cluster, name: str, size: Size) -> Heard:
    """Listen to the job's events, as many browsers would."""
    parts = urlsplit(made.url)
    assert parts.hostname and parts.port
    server = psutil.Process(made.server_pid)
    idle = await _share(server, size.watch_seconds / 2)
    token = made.token_file.read_text().strip()
    head = f"GET /jobs/{name}/live HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {token}\r\n\r\n"
    heard: list[list[Message]] = [[] for _ in range(size.clients)]
    clients = [asyncio.create_task(_client(parts.hostname, parts.port, head.encode(), times)) for times in heard]
    await asyncio.sleep(3.0)  # all have joined, and have what was there
    began = time.perf_counter()
    share = await _share(server, size.watch_seconds)
    ended = time.perf_counter()
    for client in clients:
        client.cancel()
    await asyncio.gather(*clients, return_exceptions=True)
    rows = [[one for one in times if began < one[0] < ended] for times in heard]
    spreads = _spreads(rows)
    sent = sum(size_bytes for row in rows for _, size_bytes, _ in row)
    return Heard(
        sum(1 for row in rows if row),
        len(spreads),
        share,
        idle,
        1000 * statistics.median(spreads or [0.0]),
        1000 * max(spreads or [0.0]),
        sent / (ended - began) / (1 << 20),
    )


async def _share(process: psutil.Process, seconds: float) -> float:
    """The share of one processor that a process takes."""
    before, began = sum(process.cpu_times()[:2]), time.perf_counter()
    await asyncio.sleep(seconds)
    return (sum(process.cpu_times()[:2]) - before) / (time.perf_counter() - began)


async def _client(host: str, port: int, head: bytes, times: list[Message]) -> None:
    """Note when each message was whole, and how large it was; and ask for the tasks, as the page does."""
    reader, writer = await asyncio.open_connection(host, port, limit=1 << 24)
    answers, asks = await asyncio.open_connection(host, port, limit=1 << 24)
    table = head.replace(b"/live ", b"/tasks ", 1)
    asked = 0.0
    try:
        writer.write(head)
        while True:
            message = await reader.readuntil(b"\n\n")
            if b"hx-partial" in message:
                times.append((time.perf_counter(), len(message), hash(message)))
            elif b"event: tasks" in message and time.perf_counter() - asked >= _TABLE_SECONDS:
                asked = time.perf_counter()
                asks.write(table)
                fields = (await answers.readuntil(b"\r\n\r\n")).lower()
                length = int(fields.split(b"content-length:")[1].split(b"\r\n")[0])
                await answers.readexactly(length)
    finally:
        writer.close()
        asks.close()


def _spreads(rows: Sequence[Sequence[Message]]) -> list[float]:
    """For each message, the time from the first client that has it to the last.

    A client that is late is sent several changes as one message, which is another one than others have: then the times
    of the rest count.
    """
    moments: dict[int, list[float]] = {}
    for row in rows:
        for when, _, digest in row:
            moments.setdefault(digest, []).append(when)
    return [max(some) - min(some) for some in moments.values() if len(some) > len(rows) / 2]


def _text(seen: Seen, heard: Heard, size: Size) -> str:
    per = seen.per_update_ms
    script = per["ScriptDuration"]
    rows = [
        ["a browser, at a job that runs", ""],
        ["first contentful paint", f"{seen.paint_ms:.0f} ms"],
        ["page ready", f"{seen.loaded_ms:.0f} ms"],
        ["page, without what is kept", f"{seen.html_bytes / 1024:.0f} KiB"],
        [f"scripting for an update (of {seen.updates})", f"{script:.1f} ms"],
        ["style and layout for an update", f"{per['LayoutDuration'] + per['RecalcStyleDuration']:.1f} ms"],
        ["all work of the tab for an update", f"{per['TaskDuration']:.1f} ms"],
        ["longest task of the tab", f"{seen.longest_ms:.0f} ms" if seen.longest_ms else "below 50 ms"],
        ["an update", f"{seen.update_bytes / 1024:.0f} KiB"],
        [f"sorting {size.tasks:,} tasks anew, until shown", f"{seen.filter_ms:.0f} ms"],
    ]
    many = [
        [f"{heard.clients} clients, at a job that runs", ""],
        ["server without them, of one processor", f"{heard.idle_share:.0%}"],
        ["server with them", f"{heard.server_share:.0%}"],
        ["sent", f"{heard.mib_per_second:.1f} MiB/s"],
        ["first client to last, median of updates", f"{heard.spread_ms:.0f} ms"],
        ["first client to last, worst", f"{heard.worst_ms:.0f} ms"],
    ]
    body = [
        f"## The page, with {size.tasks:,} tasks",
        f"A job of {size.tasks:,} map tasks that wait {size.task_seconds:g} s each, in eight slots on this machine, "
        "which is the server's and the browser's too. Chromium without a window, 1280 × 900.",
        table(rows),
        f"Scripting takes {script:.0f} ms for an update. Goal below {LIMIT_MS:g} ({verdict(script < LIMIT_MS)}).",
        table(many),
        f"The machine's load (processes that run or want to, the last five minutes) was {os.getloadavg()[1]:.1f}.",
    ]
    return "\n\n".join(body)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="tiny; nothing is written")
    given = parser.parse_args()
    conclude("page", *section(SMOKE if given.smoke else SIZE), write=not given.smoke)
