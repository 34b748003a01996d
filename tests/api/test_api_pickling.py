"""Code that cannot travel: the message names the variable, who uses it, and where."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from textwrap import dedent

import pytest

from gristmill.api.loading import load_job
from gristmill.api.pickling import pickle_code
from gristmill.errors import UnpicklableCode
from gristmill.plan.functions import JobCode


def pickled(tmp_path: Path, source: str) -> bytes:
    script = tmp_path / "script.py"
    script.write_text(dedent(source).lstrip())
    return pickle_code(load_job(str(script)).code)


def refused(tmp_path: Path, source: str) -> str:
    with pytest.raises(UnpicklableCode) as caught:
        pickled(tmp_path, source)
    return str(caught.value)


def line_with(source: str, mark: str) -> int:
    return dedent(source).lstrip().splitlines().index(next(t for t in source.splitlines() if mark in t).strip()) + 1


def test_a_script_travels_by_value(tmp_path: Path) -> None:
    data = pickled(
        tmp_path,
        """
        import re
        WORD = re.compile("[a-z]+")

        def words(line):
            return WORD.findall(line)

        def mapper(key, line):
            return [(word, 1) for word in words(line)]
        """,
    )
    (tmp_path / "script.py").unlink()
    code = pickle.loads(data)
    assert isinstance(code, JobCode)
    assert code.steps[0].mapper is not None
    assert code.steps[0].mapper(None, "to be") == [("to", 1), ("be", 1)]


GLOBAL = """
    import threading
    lock = threading.Lock()

    def mapper(key, value):
        count = 0
        with lock:  # here
            yield key, value
    """


def test_a_global_variable(tmp_path: Path) -> None:
    message = refused(tmp_path, GLOBAL)
    assert message == (
        f"{tmp_path}/script.py:6, in mapper\n"
        "    with lock:  # here\n"
        "mapper uses the global variable 'lock', of type _thread.lock, which cannot be sent to another process.\n"
        "Make it in mapper_init instead (global x; x = …): that runs in every task."
    )


@pytest.mark.parametrize(
    ("source", "place", "what"),
    [
        (
            """
            import threading
            lock = threading.Lock()
            def deep(value):
                return [lock for _ in value]  # here
            def helper(value):
                return deep(value)
            def mapper(key, value):
                yield helper(value), 1
            """,
            "deep",
            "the global variable 'lock'",
        ),
        (
            """
            import threading
            def make():
                lock = threading.Lock()
                def inner(key, values):
                    with lock:  # here
                        yield key, 1
                return inner
            reducer = make()
            """,
            "inner",
            "the variable 'lock' of the function around it",
        ),
        (
            """
            import threading
            from gristmill import MapReduce
            class Job(MapReduce):
                def __init__(self):
                    self.lock = threading.Lock()  # here
                def mapper(self, key, value):
                    yield key, value
            """,
            "__init__",
            "the attribute self.lock",
        ),
        (
            """
            import threading
            from gristmill import MapReduce
            class Job(MapReduce):
                lock = threading.Lock()
                def mapper(self, key, value):
                    with self.lock:  # here
                        yield key, value
            """,
            "mapper",
            "the attribute Job.lock",
        ),
        (
            """
            import threading
            from gristmill import MapReduce
            class Job(MapReduce):
                lock = threading.Lock()  # here
                def mapper(self, key, value):
                    yield key, value
            """,
            "Job",
            "the attribute Job.lock",
        ),
        (
            """
            import threading
            from gristmill import MapReduce
            lock = threading.Lock()
            class Job(MapReduce):
                def steps(self):
                    return [self.step(mapper=self.one), self.step(mapper=lambda k, v: [(k, lock)])]  # here
                def one(self, key, value):
                    yield key, value
            """,
            "<lambda>",
            "the global variable 'lock'",
        ),
    ],
)
def test_who_is_to_blame(tmp_path: Path, source: str, place: str, what: str) -> None:
    message = refused(tmp_path, source)
    line = next(number for number, text in enumerate(dedent(source).lstrip().splitlines(), 1) if "# here" in text)
    assert message.startswith(f"{tmp_path}/script.py:{line}, in {place}\n")
    assert re.search(f"{re.escape(place)} uses {re.escape(what)}, of type _thread.lock, which cannot", message)


def test_the_advice_names_the_hook_of_the_role(tmp_path: Path) -> None:
    assert "in reducer_init instead" in refused(tmp_path, GLOBAL.replace("mapper", "reducer"))


def test_a_name_used_otherwise_is_not_blamed(tmp_path: Path) -> None:
    source = """
        import threading
        other = threading.Lock()
        lock = threading.Lock()
        def mapper(key, value):
            key.other = 1
            yield lock, value
        """
    assert "the global variable 'lock'" in refused(tmp_path, source)
