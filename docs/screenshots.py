"""Makes the pictures of the page for the documentation, from a real server, workers and jobs. Run by hand:

    python docs/screenshots.py

It takes about a minute and writes docs/screenshots/*.png. Chromium must be installed (``make browser``).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from textwrap import dedent

from playwright.sync_api import Browser, Page, sync_playwright

PICTURES = Path(__file__).parent / "screenshots"
GRISTMILL = Path(sys.executable).with_name("gristmill")
_UP_SECONDS = 60.0
_ARGUMENTS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")

VISITS = '''
    """Visits of each page of a shop, from its log."""

    import sys
    import time
    from pathlib import Path

    from gristmill import MapReduce


    class Visits(MapReduce):
        def mapper(self, _, line):
            number = int(line)
            seen = Path(self.params["folder"], line.strip())
            print(f"reading part {number} of the log")
            if number % 97 == 17 and not seen.exists():
                seen.touch()
                time.sleep(0.3)
                raise ConnectionError(f"part {number} of the log is being rotated")
            if number == 120 and not seen.exists():  # a disk that is slow, once
                seen.touch()
                time.sleep(60)
            time.sleep(0.25 + number * 37 % 101 / 160)
            self.counter("Log", "lines", 48_211 + number)
            self.counter("Log", "robots", 1_204)
            for visit in range(400):
                yield ("/cart" if visit % 3 else f"/item/{visit * number % 977}"), 1

        def reducer(self, page, visits):
            yield page, sum(visits)
'''

LATENCY = '''
    """How long requests take, by path."""

    from gristmill import MapReduce


    class Latency(MapReduce):
        def mapper(self, _, line):
            path, *numbers = self.fields(line)
            yield path, numbers

        def fields(self, line):
            path, *rest = line.split("\\t")
            return [path, *(int(part) for part in rest)]

        def reducer(self, path, numbers):
            yield path, max(map(max, numbers))
'''


class Site:
    """A server and two workers, with all that they write in one folder."""

    def __init__(self, folder: Path, close: ExitStack) -> None:
        self.folder = folder
        self._close = close
        self._start("serve", "--port", "0", "--executors", "0", "--max-jobs", "2", "--data-dir", folder / "server")
        facts = folder / "server" / "server.json"
        wait_until(facts.exists)
        self.url = str(json.loads(facts.read_text())["url"])
        self.tokens = {"admin": (folder / "server" / "token").read_text().strip()}
        for name in ("mill-1", "mill-2"):
            options = [
                "--name",
                name,
                "--executors",
                "4",
                "--memory",
                "1GiB",
                "--token-file",
                folder / "server" / "token",
            ]
            self._start("worker", self.url, "--data-dir", folder / name, *options)

    def _start(self, *arguments: object) -> None:
        log = self._close.enter_context((self.folder / "log").open("ab"))
        process = subprocess.Popen([GRISTMILL, *map(str, arguments)], stdout=log, stderr=log, start_new_session=True)
        self._close.callback(_end, process)

    def submit(self, user: str, job: str, source: Path, name: str, *options: str) -> str:
        """Submit a job as somebody; its id."""
        if user not in self.tokens:
            command = [GRISTMILL, "token", "add", user, "--role", "submitter", "--data-dir", self.folder / "server"]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            self.tokens[user] = done.stdout.split()[-1]
        command = [GRISTMILL, "submit", job, source, "-o", self.folder / name, "--server", self.url, *options]
        environment = {**os.environ, "GRISTMILL_TOKEN": self.tokens[user]}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            raise RuntimeError(done.stderr)
        return done.stdout.split()[-1]

    def wait(self, job: str) -> None:
        """Wait until a job is over."""
        self._tell("wait", job)

    def cancel(self, job: str) -> None:
        """End a job: workers wait for what they run."""
        self._tell("cancel", job)

    def _tell(self, command: str, job: str) -> None:
        token = ["--token-file", self.folder / "server" / "token"]
        subprocess.run([GRISTMILL, command, job, "--server", self.url, *token], capture_output=True, check=False)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process. A worker is told twice: at first it waits until nobody needs what it keeps."""
    process.terminate()
    try:
        process.wait(2)
    except subprocess.TimeoutExpired:
        process.terminate()
        process.wait(30)


@contextmanager
def site() -> Iterator[Site]:
    """A server with workers, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="shop-", ignore_cleanup_errors=True) as folder, ExitStack() as close:
        yield Site(Path(folder), close)


def wait_until(condition: object) -> None:
    """Wait for something that comes soon."""
    give_up = time.monotonic() + _UP_SECONDS
    while not condition():  # type: ignore[operator]
        if time.monotonic() > give_up:
            raise RuntimeError("the site does not do what it should")
        time.sleep(0.1)


def main() -> None:
    """Make all pictures."""
    PICTURES.mkdir(exist_ok=True)
    with site() as made, sync_playwright() as playwright:
        folder = made.folder
        (folder / "visits.py").write_text(dedent(VISITS))
        (folder / "latency.py").write_text(dedent(LATENCY))
        (folder / "parts.txt").write_text("".join(f"{number:03d}\n" for number in range(300)))
        (folder / "requests.tsv").write_text("/cart\t12\t31\n" * 40 + "/item/7\t12.5.2\t18\n" + "/cart\t9\n" * 40)
        text = Path(__file__).parent
        for user, job, source, name, *options in (
            ("nightly", "wordcount", text / "*.md", "words"),
            ("analytics", "grep", text / "*.md", "errors", "--set", "pattern=error"),
            ("nightly", "access-log", text.parent / "examples" / "*.py", "hits"),
        ):
            made.wait(made.submit(user, job, source, name, *options))
        failed = made.submit("analytics", str(folder / "latency.py"), folder / "requests.tsv", "latency")
        made.wait(failed)
        seen = folder / "seen"
        seen.mkdir()
        parts = ["--split-size", "4", "--reducers", "12", "--set", f"folder={seen}"]
        running = made.submit("analytics", str(folder / "visits.py"), folder / "parts.txt", "visits", *parts)
        beside = made.submit("nightly", str(folder / "visits.py"), folder / "parts.txt", "again", *parts)
        made.submit("nightly", "wordcount", text / "*.md", "later")
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=_ARGUMENTS)
        pages = {scheme: open_page(browser, made, scheme) for scheme in ("light", "dark")}
        for scheme, page in pages.items():
            page.goto(f"{made.url}/jobs/{running}")
            page.wait_for_selector("#timeline .mark.slow", state="attached", timeout=1000 * _UP_SECONDS)
            take(page, made.url, f"/jobs/{running}", f"job-{scheme}", 820)
        for scheme, page in pages.items():
            take(page, made.url, "/", f"jobs-{scheme}", 640)
            take(page, made.url, "/workers", f"workers-{scheme}", 360)
            take(page, made.url, f"/jobs/{failed}", f"failed-{scheme}", 760)
        browser.close()
        for job in (running, beside):
            made.cancel(job)


def open_page(browser: Browser, made: Site, scheme: str) -> Page:
    """A tab of somebody who has logged in."""
    context = browser.new_context(color_scheme=scheme, viewport={"width": 1180, "height": 900})  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(f"{made.url}/?token={made.tokens['admin']}")
    return page


def take(page: Page, url: str, path: str, name: str, height: int) -> None:
    """A picture of a page, some updates after it was opened."""
    page.set_viewport_size({"width": 1180, "height": height})
    page.goto(url + path)
    page.wait_for_timeout(1500)
    page.screenshot(path=PICTURES / f"{name}.png")
    print(f"{name}.png  {(PICTURES / f'{name}.png').stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
