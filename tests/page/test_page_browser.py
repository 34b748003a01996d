"""The page in a browser, over a real server with a worker of its own: jobs are submitted, watched, cancelled, read."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser_kit import Visit, chromium, visit
from playwright.sync_api import Browser, expect

from gristmill import MapReduce
from gristmill.api.client import ServerClient
from gristmill.api.loading import job_of_class
from gristmill.api.remote import RemoteHandle, submit_to
from gristmill.config import JobOptions
from gristmill.errors import JobFailed
from gristmill.service.doors.roles import Role
from gristmill.service.doors.tokens import TOKENS, add_token
from gristmill.service.server import Server, ServeSettings

expect.set_options(timeout=60_000)


class Patient(MapReduce):
    """Waits at each line that says so until a file appears, and prints what it does."""

    def mapper(self, _: None, line: str) -> Iterator[tuple[str, int]]:
        kind, _, path = line.partition(" ")
        print(f"begins with {kind}", flush=True)
        number = 0
        while kind == "wait" and not Path(path).exists():
            number += 1
            if number % 20 == 0:
                print(f"has waited {number // 20} times", flush=True)
            time.sleep(0.02)
        if kind == "fail":
            raise ValueError(f"cannot read {path!r}")
        yield kind, len(path)

    def reducer(self, kind: str, lengths: Iterator[int]) -> Iterator[tuple[str, int]]:
        yield kind, sum(lengths)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with Server(ServeSettings(port=0, data_dir=folder / "data", executors=2)) as server:
        yield server


@pytest.fixture(scope="module")
def token(server: Server) -> str:
    return server.token_file.read_text().strip()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def admin(browser: Browser, server: Server, token: str) -> Iterator[Visit]:
    with visit(browser, server, token) as visitor:
        yield visitor


def run(server: Server, token: str, tmp_path: Path, *lines: str) -> RemoteHandle:
    """Submit a job with a task for each of these lines."""
    for number, line in enumerate(lines):
        (tmp_path / f"in{number}.txt").write_text(line + "\n")
    inputs = [str(tmp_path / f"in{number}.txt") for number in range(len(lines))]
    options = JobOptions(max_attempts=2, split_bytes=max(map(len, lines)) + 1, reducers=2)
    client = ServerClient(server.url, token)
    return submit_to(client, job_of_class(Patient), inputs, tmp_path / "out", options)


def test_people_who_are_not_known_log_in_first(browser: Browser, server: Server, token: str) -> None:
    with visit(browser, server) as visitor:
        page = visitor.go("/workers")
        expect(page.get_by_role("heading", name="Log in")).to_be_visible()
        visitor.complaints.clear()  # that the page was refused
        page.get_by_label("Token").fill("wrong")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("alert")).to_be_visible()
        visitor.complaints.clear()
        page.get_by_label("Token").fill(token)
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("heading", name="Workers")).to_be_visible()
        assert token not in page.url
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_role("heading", name="Log in")).to_be_visible()
        assert not visitor.context.cookies()


def test_a_job_is_submitted_from_the_page_and_watched_to_its_end(admin: Visit, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("a b a\n" * 1000)
    page = admin.page
    page.get_by_role("link", name="New job").click()
    page.get_by_label("Job", exact=True).fill("wordcount")
    page.get_by_label("Inputs").fill(str(tmp_path / "words.txt"))
    page.get_by_label("Output").fill(str(tmp_path / "counts"))
    page.get_by_label("Name").fill("words of mine")
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("heading", name="words of mine")).to_be_visible()
    page.evaluate("window.unmoved = true")
    expect(page.locator("#head .state")).to_have_text("succeeded")
    expect(page.locator("#figures")).to_contain_text("1,000")
    expect(page.locator("#actions")).not_to_contain_text("Cancel")
    expect(page.get_by_role("link", name="Result")).to_be_visible()
    expect(page.locator("#task-rows")).to_contain_text("done")
    assert page.evaluate("window.unmoved")  # all of it came live
    assert "a\t2000" in (tmp_path / "counts" / "part-r-00000").read_text()


def test_a_file_of_ones_own_is_run(admin: Visit, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("a b a\n")
    (tmp_path / "own.py").write_text(
        "def mapper(_, line):\n    for word in line.split():\n        yield word, 1\n\n\n"
        "def reducer(word, counts):\n    yield word, 10 * sum(counts)\n"
    )
    page = admin.go("/submit")
    page.get_by_label("Job file").set_input_files(tmp_path / "own.py")
    page.get_by_label("Inputs").fill(str(tmp_path / "words.txt"))
    page.get_by_label("Output").fill(str(tmp_path / "counts"))
    page.get_by_role("button", name="Submit").click()
    expect(page.locator("#head .state")).to_have_text("succeeded")
    assert "a\t20" in (tmp_path / "counts" / "part-r-00000").read_text()


def test_a_script_is_run_with_its_arguments(admin: Visit, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("import sys\nimport gristmill as gm\nprint(gm.range(4).sum(), sys.argv[1:])\n")
    page = admin.go("/submit")
    page.get_by_label("Job file").set_input_files(tmp_path / "script.py")
    page.get_by_label("Arguments").fill("one\ntwo words")
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("heading", name="script.py")).to_be_visible()
    expect(page.locator("#head .state")).to_have_text("succeeded")
    expect(page.locator("#logs")).to_contain_text("6 ['one', 'two words']")


def test_a_form_that_is_wrong_says_where(admin: Visit) -> None:
    page = admin.go("/submit")
    page.get_by_label("Job", exact=True).fill("wordcount")
    page.get_by_label("Inputs").fill("not/absolute.txt")
    page.get_by_label("Output").fill("/tmp/out")
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("alert")).to_contain_text("inputs.0")
    assert page.get_by_label("Inputs").input_value() == "not/absolute.txt"
    page.get_by_label("Priority").fill("soon")
    page.get_by_label("Job file").set_input_files({"name": "own.py", "mimeType": "text/x-python", "buffer": b"pass"})
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("alert")).to_contain_text("priority: It must be a whole number.")
    expect(page.get_by_role("alert")).to_contain_text("choose the file own.py again")
    expect(page.get_by_role("alert")).to_be_focused()
    admin.complaints.clear()  # that the form was refused


def test_a_job_is_cancelled_from_the_page_and_tried_again(
    admin: Visit, server: Server, token: str, tmp_path: Path
) -> None:
    job = run(server, token, tmp_path, f"wait {tmp_path / 'never'}")
    page = admin.go(f"/jobs/{job.job_id}")
    expect(page.locator("#task-rows")).to_contain_text("running")
    expect(page.locator("#timeline .mark.running")).to_have_count(2)  # one is in the legend
    asked: list[str] = []
    page.on("dialog", lambda dialog: (asked.append(dialog.message), dialog.accept()))
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#head .state")).to_have_text("cancelled")
    assert len(asked) == 1
    (tmp_path / "never").touch()
    page.get_by_role("button", name="Retry").click()
    expect(page.locator("#head .state")).to_have_text("succeeded")


def test_open_pages_see_that_somebody_else_tries_the_job_again(
    admin: Visit, server: Server, token: str, tmp_path: Path
) -> None:
    job = run(server, token, tmp_path, f"wait {tmp_path / 'never'}")
    watched = admin.go(f"/jobs/{job.job_id}")
    expect(watched.locator("#head .state")).to_have_text("running")
    job.cancel()
    expect(watched.locator("#head .state")).to_have_text("cancelled")
    later = admin.open()
    later.goto(f"{server.url}/jobs/{job.job_id}")
    for page in (watched, later):
        expect(page.get_by_role("button", name="Retry")).to_be_visible()
        page.evaluate("window.unmoved = true")
    (tmp_path / "never").touch()
    ServerClient(server.url, token).post(f"/jobs/{job.job_id}/retry")
    for page in (watched, later):
        expect(page.locator("#head .state")).to_have_text("succeeded")
        expect(page.locator("#actions")).not_to_contain_text("Retry")
        expect(page.get_by_role("link", name="Result")).to_be_visible()
        assert page.evaluate("window.unmoved")  # all of it came live


def test_the_users_own_line_comes_first(admin: Visit, server: Server, token: str, tmp_path: Path) -> None:
    job = run(server, token, tmp_path, "fail me", "pass on")
    page = admin.go(f"/jobs/{job.job_id}")
    expect(page.locator("#head .state")).to_have_text("failed")
    failure = page.locator("#failure")
    expect(failure.locator(".line")).to_have_text('raise ValueError(f"cannot read {path!r}")')
    expect(failure.locator(".what")).to_have_text("ValueError: cannot read 'me'")
    expect(failure.locator(".place")).to_contain_text("test_page_browser.py:")
    expect(failure).to_contain_text("'fail me'")
    page.locator("#timeline .mark.failed[data-task]").first.click()
    page.wait_for_url("**/tasks/0-0")
    expect(page.locator(".attempt")).to_have_count(2)
    expect(page.locator(".attempt .failure")).to_have_count(2)
    expect(page.locator(".attempt pre.log").last).to_contain_text("begins with fail")


def test_a_log_is_followed(admin: Visit, server: Server, token: str, tmp_path: Path) -> None:
    job = run(server, token, tmp_path, f"wait {tmp_path / 'go'}")
    page = admin.go(f"/jobs/{job.job_id}/tasks/0-0")
    while not page.locator(".attempt").count():
        page.reload()
    log = page.locator("pre.log")
    expect(log).to_contain_text("has waited 1 times")
    expect(log).to_contain_text("has waited 4 times")
    (tmp_path / "go").touch()
    expect(page.locator(".attempt")).to_contain_text("It is over.")
    assert log.inner_text().count("has waited 1 times") == 1


def test_lists_are_live_and_can_be_filtered(admin: Visit, server: Server, token: str, tmp_path: Path) -> None:
    page = admin.go("/?state=running")
    job = run(server, token, tmp_path, f"wait {tmp_path / 'go'}")
    row = page.locator(f"[id='j-{job.job_id}']")
    expect(row).to_contain_text("running")
    (tmp_path / "go").touch()
    expect(row).to_have_count(0)
    page = admin.go("/history")
    expect(page.locator(f"[id='j-{job.job_id}']")).to_contain_text("succeeded")
    page.get_by_label("State").select_option("failed")
    page.wait_for_url("**state=failed**")
    expect(page.locator(f"[id='j-{job.job_id}']")).to_have_count(0)
    page = admin.go("/workers")
    expect(page.locator("table.workers tbody tr")).to_have_count(1)
    expect(page.locator("table.workers")).to_contain_text("up")


def test_viewers_are_offered_nothing_that_they_may_not_do(
    browser: Browser, server: Server, token: str, folder: Path, tmp_path: Path
) -> None:
    viewer = add_token(folder / "data" / TOKENS, "vera", Role.VIEWER)
    job = run(server, token, tmp_path, f"wait {tmp_path / 'go'}")
    with visit(browser, server, viewer) as visitor:
        page = visitor.page
        expect(page.get_by_role("link", name="New job")).to_have_count(0)
        page = visitor.go(f"/jobs/{job.job_id}")
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        expect(page.get_by_role("button", name="Cancel")).to_have_count(0)
        answers = page.evaluate(
            "async (paths) => Promise.all(paths.map(async (path) => (await fetch(path, {method: 'POST'})).status))",
            [f"/jobs/{job.job_id}/cancel", f"/jobs/{job.job_id}/retry", "/submit", "/workers/x/drain"],
        )
        assert answers == [403] * 4
        visitor.complaints.clear()
        page = visitor.go("/workers")
        expect(page.get_by_role("button", name="Drain")).to_have_count(0)
    (tmp_path / "go").touch()
    assert job.finish(60).view.state.value == "succeeded"


def test_everything_can_be_done_with_the_keyboard_alone(
    admin: Visit, server: Server, token: str, tmp_path: Path
) -> None:
    job = run(server, token, tmp_path, *(["pass on"] * 30))
    job.finish(60)
    page = admin.go(f"/jobs/{job.job_id}")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    seen = []
    for _ in range(60):
        page.keyboard.press("Tab")
        name = page.evaluate("(document.activeElement.name || '') + '|' + document.activeElement.textContent.trim()")
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
        seen.append(name)
        if name == "go|Next":
            break
    assert [name for name in seen if name.startswith(("stage|", "state|", "sort|"))]
    page.keyboard.press("Enter")
    expect(page.locator("#task-rows caption")).to_have_text("Tasks 26 to 32 of 32")
    assert "go=" not in page.url  # it came into the page
    page.locator("select[name=stage]").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator("#task-rows caption")).to_have_text("Tasks 1 to 2 of 2")


def test_all_pages_can_be_used_by_all(browser: Browser, server: Server, token: str, tmp_path: Path) -> None:
    failed = run(server, token, tmp_path, "fail me", *(["pass on"] * 3))
    with pytest.raises(JobFailed):
        failed.finish(60)
    most = ["/", "/submit", f"/jobs/{failed.job_id}", "/login"]
    rest = ["/history", "/workers", f"/jobs/{failed.job_id}/tasks/0-0", "/jobs/none"]
    with visit(browser, server, token) as visitor:
        for path in [*most, *rest]:
            page = visitor.go(path)
            assert visitor.axe() == [], path
            if path in most:  # the others have no colours that these do not have
                page.emulate_media(color_scheme="dark")
                assert visitor.axe() == [], f"{path} in the dark"
                page.emulate_media(color_scheme="light")
            assert page.locator("h1").count() == 1, path
            page.set_viewport_size({"width": 375, "height": 700})
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= 375, f"{path} is {wide} pixels wide on a telephone"
            page.set_viewport_size({"width": 1280, "height": 900})
        visitor.complaints[:] = [one for one in visitor.complaints if "404" not in one]


def test_the_pages_of_a_job_that_runs_can_be_used_by_all(
    admin: Visit, server: Server, token: str, tmp_path: Path
) -> None:
    """With a log that goes on."""
    gate = tmp_path / "gate"
    runs = run(server, token, tmp_path, f"wait {gate}")
    try:
        for path in (f"/jobs/{runs.job_id}", f"/jobs/{runs.job_id}/tasks/0-0"):
            page = admin.go(path)
            if path.endswith("0-0"):
                page.locator("details.logbox").first.wait_for()
                expect(page.locator("pre.log").first).to_contain_text("begins with wait")
            expect(page.locator(".state.running").first).to_be_visible()
            assert admin.axe() == [], path
    finally:
        gate.touch()
    runs.finish(60)


def test_pages_can_be_read_without_scripts(browser: Browser, server: Server, token: str, tmp_path: Path) -> None:
    job = run(server, token, tmp_path, *(["pass on"] * 30))
    job.finish(60)
    with visit(browser, server, token, java_script_enabled=False) as visitor:
        page = visitor.go(f"/jobs/{job.job_id}?stage=0")
        page.get_by_role("button", name="Next").click()
        expect(page.locator("#task-rows caption")).to_have_text("Tasks 26 to 30 of 30")
        expect(page.locator("#head .state")).to_have_text("succeeded")
