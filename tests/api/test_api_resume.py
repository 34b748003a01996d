"""--resume: whatever ended a run, the next one goes on where it stood; unless something has changed, which is named."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from resume_kit import FILES, REDUCERS, SCRIPT, WIDTH, Scene

import gristmill
from gristmill import MapReduce
from gristmill.errors import UsageError
from gristmill.storage.failpoints import FAIL_POINTS


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Callable[[str], Scene]]:
    made: list[Scene] = []

    def make(last_line: str) -> Scene:
        made.append(Scene(tmp_path, last_line))
        return made[-1]

    yield make
    for scene in made:
        for process in scene.started:
            if process.poll() is None:
                process.kill()
                process.communicate()


def test_a_killed_run_goes_on(scene: Callable[[str], Scene]) -> None:
    there = scene("hold map")
    there.kill_while_a_map_task_runs()
    [job] = there.jobs()
    assert there.litter() == [f".out.gristmill-{job}"]
    begun = there.open_the_gate()
    out, said = there.run("--resume", "--json")
    there.assert_resumed(begun, said, job, 1 + REDUCERS)
    assert json.loads(out)["job_id"] == job
    assert json.loads(out)["records_in"] == FILES
    assert json.loads(out)["resumed_after_seconds"] > 0
    assert there.jobs() == []


@pytest.mark.soak
def test_a_run_that_is_killed_again_and_again(scene: Callable[[str], Scene]) -> None:
    there = scene("hold map")
    there.kill_while_a_map_task_runs()
    [job] = there.jobs()
    for runs in (1, 2):
        there.kill_when(lambda runs=runs: there.ran("map") == FILES + runs, "--resume")  # type: ignore[misc]
    begun = there.open_the_gate()
    _, said = there.run("--resume")
    there.assert_resumed(begun, said, job, 1 + REDUCERS)


def test_at_ninety_percent_few_tasks_run_again(scene: Callable[[str], Scene]) -> None:
    there = scene("all reducers now")
    there.kill_while_a_reduce_task_runs()
    [job] = there.jobs()
    begun = there.open_the_gate()
    _, said = there.run("--resume")
    there.assert_resumed(begun, said, job, round(0.15 * (FILES + REDUCERS)))


def test_without_an_output(scene: Callable[[str], Scene]) -> None:
    there = scene("hold map")
    there.kill_while_a_map_task_runs(output=False)
    begun = there.open_the_gate()
    out, said = there.run("--resume", output=False)
    assert "Resuming job" in said
    assert there.ran("map") + there.ran("reduce") - begun == 1 + REDUCERS
    assert {word: int(count) for word, count in (line.split("\t") for line in out.splitlines())} == there.expected
    assert there.jobs() == []


@pytest.mark.soak
def test_of_several_runs_the_likest_is_named(scene: Callable[[str], Scene]) -> None:
    """Not the youngest, which wrote to another place. How a result that is printed is kept is nobody's concern."""
    there = scene("hold map")
    there.kill_while_a_map_task_runs()
    [likest] = there.jobs()
    there.kill_when(lambda: there.noted() == 2 * (FILES - 1), "--set", "x=1", output=False)
    assert len(there.jobs()) == 2
    there.open_the_gate()
    _, said = there.run("--resume", "--reducers", "3")
    assert f"starting afresh: --reducers has changed from 4 to 3 since job {likest}." in said
    _, said = there.run("--resume", "--reducers", "3", "--set", "x=1", output=False)
    assert "starting afresh: --reducers has changed from 4 to 3 since job" in said
    assert "pickle" not in said


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.soak)])
def test_an_interrupted_run_goes_on(scene: Callable[[str], Scene], number: signal.Signals) -> None:
    there = scene("all reducers now")
    process = there.start()
    there.until(lambda: there.holds("reduce") and there.noted() == FILES + REDUCERS - 1, process)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert there.litter() == []
    [job] = there.jobs()
    begun = there.open_the_gate()
    _, said = there.run("--resume")
    there.assert_resumed(begun, said, job, 1)


def test_a_failed_run_goes_on(scene: Callable[[str], Scene]) -> None:
    there = scene("fail")
    assert "the gate is shut" in there.fail_when_all_others_are_done()
    [job] = there.jobs()
    begun = there.open_the_gate()
    _, said = there.run("--resume")
    there.assert_resumed(begun, said, job, 1 + REDUCERS)


def damage_blocks(scene: Scene) -> int:
    """Remove, cut short and change blocks; how many."""
    first, second, third = scene.blocks()[:3]
    first.unlink()
    second.write_bytes(second.read_bytes()[:10])
    data = bytearray(third.read_bytes())
    data[20] ^= 1
    third.write_bytes(data)
    return 3


def test_damaged_blocks_are_made_again(scene: Callable[[str], Scene]) -> None:
    there = scene("hold map")
    there.kill_while_a_map_task_runs()
    damaged = damage_blocks(there)
    begun = there.open_the_gate()
    _, said = there.run("--resume")
    assert f": {FILES - 1 - (damaged - 1)} of {FILES + REDUCERS} tasks" in said  # the flipped bit shows when it is read
    # The flipped bit is found by reduce tasks, of which each that does not read it may be done before.
    assert there.ran("map") + there.ran("reduce") - begun <= 1 + damaged + 2 * REDUCERS
    assert there.counted() == there.expected


def test_staged_files_that_are_gone_are_made_again(scene: Callable[[str], Scene]) -> None:
    there = scene("all reducers now")
    there.kill_while_a_reduce_task_runs()
    [job] = there.jobs()
    staged = sorted((there.folder / f".out.gristmill-{job}" / "attempts").glob("*part-r-*"))
    whole = [path for path in staged if path.stat().st_size]
    whole[0].unlink()
    whole[1].write_text("x")
    begun = there.open_the_gate()
    _, said = there.run("--resume")
    there.assert_resumed(begun, said, job, 4)


def test_a_staging_folder_that_is_gone(scene: Callable[[str], Scene]) -> None:
    there = scene("all reducers now")
    there.kill_while_a_reduce_task_runs()
    [job] = there.jobs()
    (there.folder / f".out.gristmill-{job}").rename(there.folder / "elsewhere")
    begun = there.open_the_gate()
    _, said = there.run("--resume")
    there.assert_resumed(begun, said, job, REDUCERS)


def some(values: Sequence[str], quick: Sequence[str]) -> list[object]:
    """All of them in a soak, a few of them otherwise."""
    return [value if value in quick else pytest.param(value, marks=pytest.mark.soak) for value in values]


COMMIT_POINTS = some(
    [point for point in FAIL_POINTS if point.startswith("commit")],
    ["commit.first-part-named", "commit.published"],
)
CHANGES = some(["script", "import", "input", "new input", "option", "parameter"], ["script", "input", "option"])


@pytest.mark.parametrize("point", COMMIT_POINTS)
def test_a_commit_that_was_cut_short_is_completed(scene: Callable[[str], Scene], point: str) -> None:
    there = scene("w1 w2")
    there.run(failpoint=point, code=137)
    [job] = there.jobs()
    begun = there.open_the_gate()
    _, said = there.run("--resume")
    there.assert_resumed(begun, said, job, 0)
    assert json.loads((there.output / "_SUCCESS").read_text())["job_id"] == job
    assert there.jobs() == []


@pytest.mark.parametrize("change", CHANGES)
def test_what_has_changed_is_named(scene: Callable[[str], Scene], change: str) -> None:
    there = scene("hold map")
    (there.folder / "helper.py").write_text("n = 1\n")
    (there.folder / "count.py").write_text(f"import helper\n{SCRIPT}")
    there.kill_while_a_map_task_runs()
    [job] = there.jobs()
    more: tuple[str, ...] = ()
    if change == "script":
        (there.folder / "count.py").write_text(f"import helper\n{SCRIPT}\n# another\n")
        words = r"count\.py has changed"
    elif change == "import":
        (there.folder / "helper.py").write_text("n = 2\n")
        words = r"helper\.py has changed"
    elif change == "input":
        os.utime(there.folder / "in" / "00.txt", (1, 1))
        words = r"the input .*/in/00\.txt has changed"
    elif change == "new input":
        (there.folder / "in" / "99.txt").write_text(f"{'all':<{WIDTH}}\n")
        there.expected["all"] += 1
        words = r"the input .*/in/99\.txt is new"
    elif change == "option":
        more = ("--reducers", "3")
        words = r"--reducers has changed from 4 to 3"
    else:
        more = ("--set", "x=1")
        words = r"the parameter x has changed from not given to '1'"
    there.open_the_gate()
    _, said = there.run("--resume", *more)
    assert re.search(rf"--resume: starting afresh: {words} since job {job}\.", said), said
    assert there.counted() == there.expected
    assert there.litter() == []


def test_nothing_to_resume(scene: Callable[[str], Scene]) -> None:
    there = scene("w1")
    _, said = there.run("--resume")
    assert "--resume: there is nothing to resume; starting afresh." in said
    assert there.counted() == there.expected


def test_a_new_run_leaves_an_interrupted_one_alone_until_it_is_done(scene: Callable[[str], Scene]) -> None:
    there = scene("hold map")
    there.kill_while_a_map_task_runs()
    [job] = there.jobs()
    staging = there.folder / f".out.gristmill-{job}"
    (there.folder / "count.py").write_text(f"{SCRIPT}# another\n")
    process = there.start()
    there.until(lambda: there.ran("map") == 2 * FILES, process)
    assert staging.is_dir()
    there.open_the_gate()
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert not staging.exists()
    assert there.jobs() == [job], "its folder is kept until it is old"


def test_from_python(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("a\nb\na\n")
    script = tmp_path / "twice.py"
    script.write_text(
        "import os, sys\nfrom pathlib import Path\nfrom gristmill import MapReduce\n"
        "class Twice(MapReduce):\n"
        "    def mapper(self, key, line):\n        yield line, 1\n"
        "    def reducer(self, key, ones):\n        yield key, sum(ones)\n"
        "here = Path(sys.argv[1])\n"
        "if __name__ == '__main__':\n"
        "    result = Twice.run(here / 'in.txt', on='inline', data_dir=here / 'data', resume=True)\n"
        "    print(dict(result))\n"
    )
    source = str(Path(gristmill.__path__[0]).parent)
    for point, code in (("commit.begun", 137), ("", 0)):
        environment = {**os.environ, "PYTHONPATH": source, "GRISTMILL_FAILPOINT": point}
        command = [sys.executable, str(script), str(tmp_path)]
        done = subprocess.run(command, env=environment, timeout=60, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        if code:
            [job] = [path.name for path in (tmp_path / "data" / "jobs").iterdir()]
    assert done.stdout == "{'a': 2, 'b': 1}\n"
    assert job


@pytest.mark.parametrize(
    ("options", "words"),
    [({"task_cpus": 3}, "takes 3 CPUs never runs on 2 executors"), ({"task_memory": "2GiB"}, "reserves 2.0 GiB")],
    ids=["CPUs", "memory"],
)
def test_what_a_task_asks_for_must_be_there(tmp_path: Path, options: dict[str, object], words: str) -> None:
    class Same(MapReduce):
        def mapper(self, key: object, line: str) -> Iterator[tuple[str, int]]:
            yield line, 1

    (tmp_path / "in.txt").write_text("a\n")
    with pytest.raises(UsageError, match=words):
        Same.run(tmp_path / "in.txt", executors=2, memory="1GiB", data_dir=tmp_path / "data", **options)  # type: ignore[arg-type]
    inline = Same.run(tmp_path / "in.txt", on="inline", data_dir=tmp_path / "data", **options)  # type: ignore[arg-type]
    assert dict(inline) == {"a": 1}
    inline.close()
    assert list((tmp_path / "data" / "jobs").iterdir()) == []
