"""From a name to a job."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from gristmill.api.loading import load_job
from gristmill.config import JobOptions
from gristmill.errors import JobNotFound, UsageError

JOB = """
    from gristmill import MapReduce

    class Count(MapReduce):
        def mapper(self, key, value):
            yield value, 1
"""


@pytest.fixture(autouse=True)
def restored_path() -> Iterator[None]:
    before = list(sys.path)
    yield
    sys.path[:] = before


def write(folder: Path, source: str, name: str = "script.py") -> str:
    path = folder / name
    path.write_text(dedent(source).lstrip())
    return str(path)


def roles(spec: str, **params: object) -> set[str]:
    step = load_job(spec, params).code.steps[0]
    return {role for role, function in vars(step).items() if function is not None}


def test_the_only_class(tmp_path: Path) -> None:
    job = load_job(write(tmp_path, JOB))
    assert job.name == "Count"
    assert len(job.code.steps) == 1
    assert job.import_paths[0] == str(tmp_path)


def test_only_what_the_class_defines_is_passed(tmp_path: Path) -> None:
    assert roles(write(tmp_path, JOB)) == {"mapper"}
    inherited = JOB + "        def reducer(self, key, values):\n            yield key, 1\n    class More(Count): pass\n"
    assert roles(write(tmp_path, inherited, "two.py")) == {"mapper", "reducer"}


def test_a_class_by_name(tmp_path: Path) -> None:
    path = write(tmp_path, JOB + "    class Other(MapReduce):\n        def reducer(self, key, values): ...\n")
    assert load_job(f"{path}:Other").name == "Other"
    with pytest.raises(JobNotFound, match=r"several jobs: Count, Other\. Say which: .*script\.py:Count"):
        load_job(path)
    with pytest.raises(JobNotFound, match=r"no MapReduce class Nobody\. There is: Count, Other\."):
        load_job(f"{path}:Nobody")


def test_a_base_class_is_not_another_job(tmp_path: Path) -> None:
    assert load_job(write(tmp_path, JOB + "    class Real(Count):\n        pass\n")).name == "Real"


def test_an_imported_class_counts_only_if_there_is_no_other(tmp_path: Path) -> None:
    write(tmp_path, JOB, "loading_lib.py")
    path = write(tmp_path, "from loading_lib import Count\n")
    assert load_job(path).name == "Count"
    path = write(tmp_path, "from loading_lib import Count\nclass Mine(Count): pass\n", "mine.py")
    assert load_job(path).name == "Mine"


def test_bare_functions(tmp_path: Path) -> None:
    source = """
        reducers = 3
        def mapper(key, value): ...
        def combiner(key, values): ...
        def reducer(key, values): ...
        def partitioner(key, partitions): ...
        def mapper_init(): ...
        """
    path = write(tmp_path, source)
    assert roles(path) == {"mapper", "combiner", "reducer", "partitioner", "mapper_init"}
    assert (load_job(path).name, load_job(path).reducers) == ("script", 3)


def test_params_of_a_class(tmp_path: Path) -> None:
    source = """
        from gristmill import MapReduce
        class Base(MapReduce):
            params = {"a": 1, "b": 2}
        class Job(Base):
            params = {"b": 3}
            def __init__(self):
                self.seen = dict(self.params)
            def mapper(self, key, value):
                yield key, value
        """
    mapper = load_job(write(tmp_path, source), {"c": 4}).code.steps[0].mapper
    assert mapper.__self__.params == {"a": 1, "b": 3, "c": 4}  # type: ignore[union-attr]
    assert mapper.__self__.seen == {"a": 1, "b": 3, "c": 4}  # type: ignore[union-attr]


def test_params_of_functions(tmp_path: Path) -> None:
    path = write(tmp_path, "params = {'n': 1}\ndef mapper(key, value):\n    yield params['n'], 1\n")
    mapper = load_job(path, {"n": "5"}).code.steps[0].mapper
    assert mapper is not None
    assert list(mapper(None, "") or ()) == [("5", 1)]
    path = write(tmp_path, "def mapper(key, value): ...\n", "none.py")
    with pytest.raises(UsageError, match="takes no parameters"):
        load_job(path, {"n": "5"})


def test_main_does_nothing_while_a_script_is_loaded(tmp_path: Path) -> None:
    path = write(tmp_path, JOB + "    Count.main()\n    class After(MapReduce):\n        def mapper(self, k, v): ...\n")
    assert load_job(path).name == "Count"  # the script says so itself
    assert load_job(f"{path}:After").name == "After"


def test_run_ends_the_loading(tmp_path: Path) -> None:
    path = write(tmp_path, JOB + "    for pair in Count.run('nothing'):\n        1 / 0\n    raise SystemExit(3)\n")
    assert load_job(path).name == "Count"


def test_the_guard_is_not_entered(tmp_path: Path) -> None:
    assert load_job(write(tmp_path, JOB + "    if __name__ == '__main__':\n        1 / 0\n")).name == "Count"


def test_helper_modules_beside_the_script(tmp_path: Path) -> None:
    write(tmp_path, "def double(value): return value * 2\n", "loading_helper.py")
    source = "from loading_helper import double\ndef mapper(key, value):\n    yield double(value), 1\n"
    mapper = load_job(write(tmp_path, source)).code.steps[0].mapper
    assert mapper is not None
    assert list(mapper(None, 2) or ()) == [(4, 1)]


def test_a_script_named_like_a_module_hides_nothing(tmp_path: Path) -> None:
    path = write(tmp_path, JOB, "json.py")
    assert load_job(path).name == "Count"
    assert hasattr(sys.modules.get("json", os), "path") or hasattr(sys.modules["json"], "dumps")


def test_two_scripts_of_one_name(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    first, second = write(tmp_path, JOB), write(tmp_path / "a", JOB.replace("Count", "Sum"))
    assert (load_job(first).name, load_job(second).name) == ("Count", "Sum")


def test_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "loading_package").mkdir()
    write(tmp_path / "loading_package", "", "__init__.py")
    write(tmp_path / "loading_package", JOB, "jobs.py")
    monkeypatch.chdir(tmp_path)
    assert load_job("loading_package.jobs:Count").name == "Count"
    assert load_job("loading_package.jobs").name == "Count"
    with pytest.raises(JobNotFound, match="no module 'loading_package"):
        load_job("loading_package.none:Count")


@pytest.mark.parametrize("name", ["nothing.py", "nothing.py:Job", "./folder/nothing.py"])
def test_a_missing_file(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(JobNotFound, match=r"There is no file .*nothing\.py"):
        load_job(name)


def test_what_was_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, JOB, "wordcount.py")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(JobNotFound, match=r"Did you mean wordcount\.py\?"):
        load_job("wordcont.py")


def test_not_a_job(tmp_path: Path) -> None:
    with pytest.raises(JobNotFound, match="neither a subclass of MapReduce nor a function named mapper"):
        load_job(write(tmp_path, "x = 1\n"))
    with pytest.raises(UsageError, match="Empty defines neither a mapper nor a reducer"):
        load_job(write(tmp_path, "from gristmill import MapReduce\nclass Empty(MapReduce): pass\n", "empty.py"))


@pytest.mark.parametrize(
    ("source", "line", "shown", "what"),
    [
        ("import os\nimport no_such_thing\n", 2, "import no_such_thing", "ModuleNotFoundError: No module named"),
        ("x = 1\ndef mapper(key, value:\n", 2, "def mapper(key, value:", "SyntaxError: "),
        ("def f():\n    1 / 0\nf()\n", 2, "1 / 0", "ZeroDivisionError: division by zero"),
        ("import sys\nsys.exit(4)\n", 2, "sys.exit(4)", "SystemExit: 4"),
    ],
)
def test_a_script_that_fails_shows_its_own_line_first(
    source: str, line: int, shown: str, what: str, tmp_path: Path
) -> None:
    path = write(tmp_path, source, "broken.py")
    with pytest.raises(UsageError) as caught:
        load_job(path)
    assert str(caught.value).startswith(f"{path}:{line}\n    {shown}\n{what}")


def test_wishes_of_the_wrong_type(tmp_path: Path) -> None:
    path = write(tmp_path, "reducers = '3'\ndef mapper(key, value): ...\n")
    with pytest.raises(UsageError, match="reducers of script must be of type int, not '3'"):
        load_job(path)


@pytest.mark.parametrize(("wish", "option", "cpus"), [(2, None, 2), (2, 1.0, 1), (None, None, 1), (None, 0.5, 0.5)])
def test_an_option_wins_over_a_wish(tmp_path: Path, wish: int | None, option: float | None, cpus: float) -> None:
    path = write(
        tmp_path, f"task_cpus = {wish}\ndef mapper(key, value): ...\n" if wish else "def mapper(key, value): ...\n"
    )
    assert load_job(path).resolve(JobOptions(task_cpus=option), None).task_cpus == cpus


def test_steps_must_be_steps(tmp_path: Path) -> None:
    source = "from gristmill import MapReduce\nclass Job(MapReduce):\n    def steps(self):\n        return [1]\n"
    with pytest.raises(UsageError, match="must return steps made by"):
        load_job(write(tmp_path, source))
    with pytest.raises(UsageError, match="A step has no 'maper'"):
        load_job(write(tmp_path, source.replace("[1]", "[self.step(maper=print)]"), "typo.py"))
    with pytest.raises(UsageError, match="must be a function, not 'x'"):
        load_job(write(tmp_path, source.replace("[1]", "[self.step(mapper='x')]"), "text.py"))
