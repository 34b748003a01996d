"""``mr-coordinator`` and ``mr-worker``: files, errors, signals, and what they leave."""

from __future__ import annotations

import importlib
import json
import signal
import stat
import tomllib
from collections import Counter
from pathlib import Path

import mr_apps as apps
import pytest
from click.testing import CliRunner
from mr_kit import Lab, executors_of, is_alive, lab, write_texts

from gristmill.cli.mr import coordinator, worker
from gristmill.errors import InputMissing, JobNotFound, OutputExists, ServerUnreachable, UsageError
from gristmill.service.mr import _publish

FACTS = "mr-coordinator.json"


def test_the_console_scripts_are_there() -> None:
    scripts = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["scripts"]
    for name in ("mr-coordinator", "mr-worker"):
        module, _, function = scripts[name].partition(":")
        assert callable(getattr(importlib.import_module(module), function))


def test_an_app_that_raises_ends_both_with_its_own_line(tmp_path: Path) -> None:
    with lab(tmp_path) as here:
        here.write("numbers.txt", "1 2 three")
        here.write("failing.py", apps.FAILING)
        coordinator, worker = here.coordinator(2, "numbers.txt"), here.worker("failing.py")
        assert worker.wait() == coordinator.wait() == 1
        for process in (worker, coordinator):
            said = [line for line in process.said().splitlines() if not line.startswith(process.name)]
            assert said[0].startswith("failing.py:6, in "), here.said()
            assert "int(word)" in said[1]
            assert said[2].startswith("ValueError: invalid literal for int()")
            assert "tried 4 times" in process.said()
            for absent in ("Kept", "Replay", "--max-bad-records"):
                assert absent not in process.said()
        assert here.leftovers() == [] and not list(here.folder.glob("mr-out*"))


def test_ctrl_c_of_the_coordinator_ends_all_and_leaves_nothing(tmp_path: Path) -> None:
    with lab(tmp_path) as here:
        here.write("endless.py", apps.ENDLESS)
        here.write("a.txt", "a")
        worker = here.worker("endless.py")  # it waits for the coordinator's file
        coordinator = here.coordinator(3, "a.txt")
        path = here.folder / FACTS
        here.wait_until(path.exists)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        said = json.loads(path.read_text())
        assert {"url", "token", "inputs", "output"} <= said.keys()
        assert (said["reducers"], said["task_timeout_seconds"]) == (3, 10.0)
        here.wait_until(lambda: "joined" in worker.said())
        second = here.coordinator(1, "a.txt")
        assert second.wait() == 2
        assert "Another mr-coordinator runs in" in second.said()
        here.wait_until(lambda: executors_of(worker))
        executors = executors_of(worker)
        coordinator.send(signal.SIGINT)
        assert worker.wait() == coordinator.wait() == 130, here.said()
        assert "Cancelled" in worker.said() and "Cancelled" in coordinator.said()
        here.wait_until(lambda: not any(map(is_alive, executors)))
        assert here.leftovers() == [] and not list(here.folder.glob("mr-out*"))


@pytest.mark.soak
def test_a_worker_leaves_and_others_go_on(tmp_path: Path) -> None:
    with lab(tmp_path) as here:
        here.write("first.py", apps.EARLY_EXIT)
        here.write("other.py", apps.WC)
        names = [here.write(f"{number}.txt", "").name for number in range(2)]
        coordinator = here.coordinator(1, *names)
        leaver = here.worker("first.py")
        here.wait_until(lambda: "joined" in leaver.said())
        leaver.send(signal.SIGINT)
        assert leaver.wait() in (130, 0)  # 0: it was done before
        stayer = here.worker("other.py")
        assert stayer.wait() == coordinator.wait() == 0, here.said()
        # The first app counts, and an empty file is a task like any other.
        assert here.result(1) == dict.fromkeys(names, "1")
        if leaver.wait() == 130:
            assert "other workers go on" in leaver.said()
            assert "first" in stayer.said() and "other is not used" in stayer.said()
        assert here.leftovers() == []


@pytest.mark.soak
def test_what_a_killed_coordinator_left_is_in_nobodys_way(tmp_path: Path) -> None:
    with lab(tmp_path) as here:
        texts = write_texts(here, files=2)
        here.write("wc.py", apps.WC)
        here.write("mr-out-0", "of an earlier run\n")
        here.write("mr-out-7", "of an earlier run\n")
        killed = here.coordinator(2, *texts)
        here.wait_until((here.folder / FACTS).exists)
        killed.send(signal.SIGKILL)
        killed.wait()
        worker = here.worker("wc.py")  # it sees the file of the one that was killed
        coordinator = here.coordinator(2, *texts)
        assert worker.wait() == coordinator.wait() == 0, here.said()
        assert here.result(2) == {word: str(count) for word, count in sum(texts.values(), Counter()).items()}
        assert here.leftovers() == []


def test_an_app_and_a_worker_elsewhere(tmp_path: Path) -> None:
    with lab(tmp_path) as here:
        apart = tmp_path / "apart"
        apart.mkdir()
        (apart / "helper.py").write_text("def count(values):\n    return str(len(values))\n")
        (apart / "app.py").write_text(
            apps.WC.replace("str(len(values))", "count(values)") + "\n\nfrom helper import count\n"
        )
        (apart / "a b.txt").write_text("one two two")
        here.write("c.txt", "two")
        coordinator = here.coordinator(2, str(apart / "a b.txt"), "c.txt")
        worker = here.worker("app.py", "--coordinator", str(here.folder / FACTS), folder=apart)
        assert worker.wait() == coordinator.wait() == 0, here.said()
        assert here.result(2) == {"one": "1", "two": "3"}
        assert here.leftovers() == []
        assert sorted(path.name for path in apart.iterdir() if path.name[0] != "_") == [
            "a b.txt",
            "app.py",
            "helper.py",
        ]


# What is wrong from the start is said without starting anything.


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    made = Lab(tmp_path)
    monkeypatch.chdir(made.folder)
    return made


def run_coordinator(*arguments: str) -> None:
    CliRunner().invoke(coordinator, arguments, catch_exceptions=False, standalone_mode=False)


def run_worker(*arguments: str) -> None:
    CliRunner().invoke(worker, arguments, catch_exceptions=False, standalone_mode=False)


def test_what_a_result_would_replace_must_be_one(here: Lab) -> None:
    here.write("a.txt", "a")
    here.write("mr-out-3", "an earlier result")
    with pytest.raises(OutputExists, match="mr-out-3 is an input"):
        run_coordinator("2", "a.txt", "mr-out-3")
    (here.folder / "mr-out-1").mkdir()
    with pytest.raises(OutputExists, match="mr-out-1 is a directory"):
        run_coordinator("2", "a.txt")
    assert here.leftovers() == []


def test_an_earlier_result_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    for number in range(2):
        (tmp_path / "parts" / f"part-r-{number:05d}").write_text("new")
    for name in ("mr-out-0", "mr-out-5", "mr-out-05", "mr-out-x"):
        (tmp_path / name).write_text("old")

    def results() -> dict[str, str]:
        return {path.name: path.read_text() for path in tmp_path.glob("mr-out-*")}

    before = results()
    with pytest.raises(FileNotFoundError):
        _publish(tmp_path / "parts", tmp_path, tmp_path / "first", reducers=3)  # the third is not there
    assert results() == before
    for number in range(2):
        (tmp_path / "parts" / f"part-r-{number:05d}").write_text("new")
    _publish(tmp_path / "parts", tmp_path, tmp_path / "second", reducers=2)
    assert results() == {"mr-out-0": "new", "mr-out-1": "new", "mr-out-05": "old", "mr-out-x": "old"}


def test_files_that_are_not_there(here: Lab) -> None:
    here.write("pages.txt", "a")
    with pytest.raises(InputMissing, match=r"pagse\.txt does not exist\. Did you mean .*pages\.txt"):
        run_coordinator("2", "pages.txt", "pagse.txt")
    assert here.leftovers() == []


def test_a_number_that_is_none(here: Lab) -> None:
    here.write("a.txt", "a")
    result = CliRunner().invoke(coordinator, ["a.txt", "3"])
    assert result.exit_code == 2 and "'a.txt' is not a number. N_REDUCE comes first" in result.output
    for wrong in ("0", "ten"):
        result = CliRunner().invoke(coordinator, [wrong, "a.txt"])
        assert result.exit_code == 2 and "N_REDUCE" in result.output


def test_a_bad_app_is_told_before_anything_is_waited_for(here: Lab) -> None:
    here.write("half.py", "def map_func(filename, content): ...\n")
    with pytest.raises(JobNotFound, match="reduce_func"):
        run_worker("half.py")
    here.write("broken.py", "def map_func(:\n")
    with pytest.raises(UsageError, match=r"(?s)broken\.py:1.*SyntaxError"):
        run_worker("broken.py")


def test_nobody_to_work_for(here: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("gristmill.api.mr_worker._FIND_SECONDS", 0.1)
    here.write("wc.py", apps.WC)
    with pytest.raises(ServerUnreachable, match=r"There is no mr-coordinator\.json.*mr-coordinator N_REDUCE"):
        worker.main(["wc.py"], standalone_mode=False)
    assert capsys.readouterr().err.count("Waiting for one, for 0.1 s at most.") == 1
    here.write(FACTS, "{}")
    with pytest.raises(UsageError, match="is not the file of a coordinator"):
        run_worker("wc.py")
