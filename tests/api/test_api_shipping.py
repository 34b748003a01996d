"""What travels with a job: which modules, as which bytes, and how they come out on the other side."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import cloudpickle
import pytest

from gristmill.api import shipping
from gristmill.api.loading import load_job
from gristmill.api.pickling import pickle_code
from gristmill.api.shipping import Shipment, add_to_path
from gristmill.api.stable import stable_pickle
from gristmill.errors import UsageError
from gristmill.runtime.contracts import JobSpec
from gristmill.runtime.executor.modules import JobModules
from gristmill.runtime.files.bundles import SOURCES

SCRIPT = """
import json, click
from gristmill import MapReduce
from helpers import up

STOP = {"a", "the", "of", "and", "in", "on"}

class Point:
    pass

class Count(MapReduce):
    def mapper(self, _, line):
        import lazily
        for word in line.split():
            if word not in STOP and word not in {"x", "y", "z"}:
                yield up(word), 1

    def reducer(self, word, counts):
        yield word, sum(counts)
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A job's folder, with modules beside the script; nothing of it stays loaded."""
    files = {
        "count.py": SCRIPT,
        "helpers.py": "from words.deep import shout\ndef up(word):\n    return shout(word)\n",
        "words/__init__.py": "",
        "words/deep.py": "def shout(w):\n    if w == 'boom':\n        raise ValueError(w)\n    return w.upper()\n",
        "words/list.txt": "data",
        "words/.hidden": "no",
        "lazily.py": "import notes.later\n",
        "notes/later.py": "",
        "notes/large.bin": "x" * 1000,
        "unused.py": "",
    }
    for name, text in files.items():
        path = tmp_path / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    known, before = set(sys.modules), list(sys.path)
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setattr(shipping, "_loaded", lambda: iter(()))  # this test's own modules are of no interest here
    yield tmp_path / "project"
    sys.path[:] = before
    for name in set(sys.modules) - known:
        if name.partition(".")[0] in ("helpers", "words", "lazily", "notes") or name.startswith("job_count"):
            del sys.modules[name]
    for name in [name for name in cloudpickle.list_registry_pickle_by_value() if name.startswith("job_count")]:
        cloudpickle.unregister_pickle_by_value(ModuleType(name))


def shipment(project: Path, *py_files: str) -> Shipment:
    return Shipment(pickle_code(load_job(str(project / "count.py")).code), py_files)


def members(bundle: bytes | None) -> dict[str, bytes]:
    assert bundle is not None
    with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_what_the_script_imports_travels_and_nothing_else(project: Path) -> None:
    found = shipment(project)
    assert list(found.sources()) == [
        "count.py", "helpers.py", "lazily.py", "notes/later.py", "words/__init__.py", "words/deep.py", "words/list.txt",
    ]  # fmt: skip
    assert found.sources()["helpers.py"] == hashlib.sha256((project / "helpers.py").read_bytes()).hexdigest()
    bundle = members(found.bundle())
    assert bundle["words/list.txt"] == b"data"
    assert json.loads(bundle[SOURCES])["helpers.py"] == str(project / "helpers.py")


def test_imports_are_found_wherever_they_stand_and_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = """
class A:
    def f(self):
        try:
            import one.more
        except ImportError:
            for n in range(3):
                from two import x
        else:
            while n:
                with open(n):
                    import three as four, five
        finally:
            match n:
                case 1:
                    from . import no
                    from .no import no
                case _:
                    async def g():
                        import sixth
        if n: pass
        elif n: import seven
        else: from eight.deep import (y, z)
lambda: (lambda n: n)
"""
    monkeypatch.setattr(shipping, "_loaded", lambda: iter(()))
    monkeypatch.syspath_prepend(tmp_path)
    names = ["one", "two", "three", "five", "sixth", "seven", "eight"]
    for name in [*names, "no", "four", "later"]:
        (tmp_path / f"{name}.py").write_text("")
    (tmp_path / "script.py").write_text(script)

    def found() -> tuple[list[str], bytes | None]:
        shipment = Shipment(b"", scripts=(str(tmp_path / "script.py"),))
        return list(shipment.sources()), shipment.bundle()

    first, bundle = found()
    assert first == sorted([f"{name}.py" for name in [*names, "script"]])
    assert found() == (first, bundle)
    (tmp_path / "one.py").write_text("import later")
    more, other = found()
    assert more == sorted([*first, "later.py"])
    assert members(bundle)["one.py"] == b"" and members(other)["one.py"] == b"import later"


def test_code_that_was_typed_in_says_itself_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))
    monkeypatch.setattr(shipping, "_loaded", lambda: iter(()))
    namespace: dict[str, object] = {"__name__": "__main__"}
    exec("def mapper(key, value): yield key, 1\ndef other(key, value): yield key, 2\n", namespace)
    one, two = (Shipment(cloudpickle.dumps(namespace[name])).sources() for name in ("mapper", "other"))
    assert list(one) == list(two) == ["<code>"]
    assert one != two


def test_a_change_of_a_module_is_seen(project: Path) -> None:
    before = shipment(project).sources()
    (project / "words" / "deep.py").write_text("def shout(word):\n    return word\n")
    after = shipment(project).sources()
    assert {name for name in before if before[name] != after[name]} == {"words/deep.py"}


def test_the_same_job_is_the_same_bytes_in_every_process(project: Path) -> None:
    program = (
        "import hashlib\n"
        "from gristmill.api.loading import load_job\n"
        "from gristmill.api.pickling import pickle_code\n"
        "from gristmill.api.shipping import Shipment\n"
        "code = pickle_code(load_job('count.py', {'limit': '3'}).code, stable=True)\n"
        "print(hashlib.sha256(code).hexdigest(), hashlib.sha256(Shipment(code).bundle()).hexdigest())\n"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            timeout=60,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(digests) == 1


def test_classes_of_different_jobs_have_different_ids() -> None:
    def made(value: int) -> type:
        namespace: dict[str, type] = {}
        exec(f"class Same:\n    value = {value}\n", {"__name__": "__main__"}, namespace)
        return namespace["Same"]

    one, same, other = (stable_pickle(cls, cloudpickle.dumps(cls)) for cls in (made(1), made(1), made(2)))
    assert one == same
    assert one != other
    loaded = [cloudpickle.loads(data) for data in (one, other)]
    assert [cls.value for cls in loaded] == [1, 2]
    assert loaded[0] is not loaded[1]


def test_two_functions_that_share_a_set_still_share_it() -> None:
    namespace: dict[str, object] = {"__name__": "__main__"}
    exec("seen = set('abc')\ndef add(x): seen.add(x)\ndef has(x): return x in seen\n", namespace)
    functions = (namespace["add"], namespace["has"])
    add, has = cloudpickle.loads(stable_pickle(functions, cloudpickle.dumps(functions)))
    add("new")
    assert has("new") and has("a")


def test_what_py_files_name_travels(project: Path, tmp_path: Path) -> None:
    (tmp_path / "extra.py").write_text("import unused\n")
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("")
    (tmp_path / "loose").mkdir()
    (tmp_path / "loose" / "alone.py").write_text("")
    with zipfile.ZipFile(tmp_path / "wheel.whl", "w") as archive:
        archive.writestr("inside/__init__.py", "")
    given = [str(tmp_path / name) for name in ("extra.py", "package", "loose", "wheel.whl")]
    found = shipment(project, *given)
    there = {"extra.py", "package/__init__.py", "alone.py", "inside/__init__.py", "unused.py"}
    assert there <= found.sources().keys()
    home = json.loads(members(found.bundle())[SOURCES])
    assert home["inside/__init__.py"] == f"{tmp_path}/wheel.whl/inside/__init__.py"


def test_py_files_can_be_imported_where_the_job_is_loaded(project: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "wheel.whl", "w") as archive:
        archive.writestr("words_from_a_wheel.py", "x = 1\n")
    add_to_path([str(tmp_path / "wheel.whl")])
    assert __import__("words_from_a_wheel").x == 1
    del sys.modules["words_from_a_wheel"]


@pytest.mark.parametrize(("name", "words"), [("nowhere.py", "there is no nowhere.py"), ("count.txt", "neither a .py")])
def test_py_files_that_cannot_be_sent(project: Path, name: str, words: str) -> None:
    (project / "count.txt").write_text("")
    with pytest.raises(UsageError, match=words):
        add_to_path([name])
    with pytest.raises(UsageError, match=words):
        shipment(project, name)


def test_a_damaged_zip_file_is_refused(project: Path) -> None:
    (project / "bad.zip").write_text("not a zip")
    with pytest.raises(UsageError, match=r"bad\.zip cannot be read as a zip file"):
        shipment(project, "bad.zip")


def test_too_much_is_refused_only_when_it_would_be_sent(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipping, "MAX_BUNDLE_BYTES", 100)
    found = shipment(project)
    assert found.sources()
    with pytest.raises(UsageError, match=r"largest file is .*count\.py"):
        found.bundle()


# The other side


def spec(job: str, *bundles: str) -> JobSpec:
    return JobSpec(job, b"", (), "", "", 0, 0, 0, None, bundles=bundles)


def test_errors_in_modules_that_came_along_show_the_authors_line(project: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    bundle.write_bytes(shipment(project).bundle() or b"")
    for file in sorted(project.rglob("*"), reverse=True):  # the author's machine is another one
        file.rmdir() if file.is_dir() else file.unlink()
    program = (
        "import sys, traceback\n"
        "from gristmill.runtime.contracts import JobSpec\n"
        "from gristmill.runtime.executor.modules import JobModules\n"
        f"JobModules().enter(JobSpec('j', b'', (), '', '', 0, 0, 0, None, bundles=({str(bundle)!r},)))\n"
        "import helpers, words\n"
        "from pathlib import Path\n"
        "print(Path(words.__file__).with_name('list.txt').read_text())\n"
        "try:\n    helpers.up('boom')\n"
        "except ValueError as error:\n"
        "    for frame in traceback.extract_tb(error.__traceback__)[1:]:\n"
        "        print(frame.filename, frame.lineno, frame.line)\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], cwd=tmp_path, check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.splitlines() == [
        "data",
        f"{project}/helpers.py 3 return shout(word)",
        f"{project}/words/deep.py 3 raise ValueError(w)",
    ]


def test_jobs_that_share_a_process_do_not_share_modules(tmp_path: Path) -> None:
    for version in ("one", "two"):
        with zipfile.ZipFile(tmp_path / version, "w") as archive:
            archive.writestr("version_of_job.py", f"version = {version!r}\n")
            archive.writestr("folder_of_job/part.py", "")
    before = list(sys.path)
    modules = JobModules()
    one, two = spec("one", str(tmp_path / "one")), spec("two", str(tmp_path / "two"))
    modules.enter(one)
    first = __import__("version_of_job")
    __import__("folder_of_job.part")
    modules.enter(two)
    assert "folder_of_job" not in sys.modules
    assert __import__("version_of_job").version == "two"
    modules.enter(one)
    assert __import__("version_of_job") is first
    assert first.version == "one"
    modules.drop("one")
    modules.drop("two")
    assert "version_of_job" not in sys.modules and "folder_of_job.part" not in sys.modules
    assert sys.path == before
