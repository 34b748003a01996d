"""From names to files, from files to tasks."""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill.config import MIB
from gristmill.errors import InputMissing, InputUnreadable, UsageError
from gristmill.storage.inputs import InputFile, default_reducers, format_of, plan_tasks, resolve_inputs


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def names(files: tuple[InputFile, ...], folder: Path) -> list[str]:
    return [str(Path(file.path).relative_to(folder)) for file in files]


def test_directories_are_read_to_their_depth_in_order_without_hidden_names(tmp_path: Path) -> None:
    touch(tmp_path, "b.txt", "a/z.txt", "a/b/c.txt", "_SUCCESS", ".hidden", "_tmp/x.txt", "a/.git/config", "c_d.txt")
    files = resolve_inputs([tmp_path], None)
    assert names(files, tmp_path) == ["a/b/c.txt", "a/z.txt", "b.txt", "c_d.txt"]
    assert [file.size_bytes for file in files] == [len("a/b/c.txt"), len("a/z.txt"), len("b.txt"), len("c_d.txt")]


def test_globs(tmp_path: Path) -> None:
    touch(tmp_path, "b.log", "a.log", "x/c.log", "x/y/d.log", "_e.log", ".f.log", "x/_g/h.log", "n.txt", "logs/i.txt")
    assert names(resolve_inputs([f"{tmp_path}/*.log"], None), tmp_path) == ["a.log", "b.log"]
    deep = resolve_inputs([f"{tmp_path}/**/*.log"], None)
    assert names(deep, tmp_path) == ["a.log", "b.log", "x/c.log", "x/y/d.log"]
    folders = resolve_inputs([f"{tmp_path}/[xl]*"], None)  # directories that match are read too
    assert names(folders, tmp_path) == ["logs/i.txt", "x/c.log", "x/y/d.log"]


def test_hidden_names_are_taken_when_they_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "_in/.a.txt", "_in/b.txt")
    assert names(resolve_inputs([tmp_path / "_in" / ".a.txt"], None), tmp_path) == ["_in/.a.txt"]
    assert names(resolve_inputs([tmp_path / "_in"], None), tmp_path) == ["_in/b.txt"]
    assert names(resolve_inputs([f"{tmp_path}/_in/*.txt"], None), tmp_path) == ["_in/b.txt"]


def test_each_file_comes_once_in_the_order_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.txt", "b.txt", "c.txt")
    (tmp_path / "link.txt").symlink_to("b.txt")
    monkeypatch.chdir(tmp_path)
    files = resolve_inputs(["link.txt", "c.txt", tmp_path, "./a.txt"], None)
    assert names(files, tmp_path) == ["link.txt", "c.txt", "a.txt"]
    assert [file.name for file in files] == ["link.txt", "c.txt", str(tmp_path / "a.txt")]


def test_a_name_with_wildcard_characters_is_a_file_if_there_is_one(tmp_path: Path) -> None:
    touch(tmp_path, "a[1].txt", "a1.txt")
    assert names(resolve_inputs([tmp_path / "a[1].txt"], None), tmp_path) == ["a[1].txt"]


def test_missing_inputs_are_named_with_what_may_have_been_meant(tmp_path: Path) -> None:
    touch(tmp_path, "logs/access.log")
    with pytest.raises(InputMissing, match=r"acess\.log does not exist\. Did you mean .*logs/access\.log\?"):
        resolve_inputs([tmp_path / "logs" / "acess.log"], None)
    with pytest.raises(InputMissing, match=r"There is no directory .*nowhere\."):
        resolve_inputs([tmp_path / "nowhere" / "x" / "access.log"], None)
    with pytest.raises(InputMissing, match=r"There is no directory .*access\.log\."):
        resolve_inputs([tmp_path / "logs" / "access.log" / "x"], None)
    with pytest.raises(InputMissing, match=r"\*\.txt matches no file"):
        resolve_inputs([f"{tmp_path}/*.txt"], None)
    with pytest.raises(InputUnreadable, match=r"neither Arrow nor fsspec knows wherever://"):
        resolve_inputs(["wherever://bucket/x"], None)


def test_an_empty_directory_is_a_mistake_but_an_empty_output_is_not(tmp_path: Path) -> None:
    touch(tmp_path, "empty/_x")
    with pytest.raises(InputMissing, match="holds no files"):
        resolve_inputs([tmp_path / "empty"], None)
    touch(tmp_path, "empty/_SUCCESS")
    assert resolve_inputs([tmp_path / "empty"], None) == ()


def test_what_cannot_be_read_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to("nothing")
    with pytest.raises(InputUnreadable, match="dangling"):
        resolve_inputs([tmp_path / "dangling"], None)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputUnreadable, match="not a regular file"):
        resolve_inputs([tmp_path / "pipe"], None)
    touch(tmp_path, "x.parquet.gz", "y.parquet")
    with pytest.raises(InputUnreadable, match="Unpack it"):
        resolve_inputs([tmp_path / "x.parquet.gz"], None)
    with pytest.raises(InputUnreadable, match=r"y\.parquet is not a readable parquet"):
        plan_tasks(resolve_inputs([tmp_path / "y.parquet"], None), None)
    with pytest.raises(UsageError, match="xml"):
        resolve_inputs([tmp_path], "xml")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_permission_denied(tmp_path: Path) -> None:
    touch(tmp_path, "a.txt")
    (tmp_path / "a.txt").chmod(0)
    with pytest.raises(InputUnreadable, match="permission denied"):
        resolve_inputs([tmp_path / "a.txt"], None)


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("a", "text"), ("a.log", "text"), ("a.csv", "csv"), ("A.CSV", "csv"), ("a.csv.gz", "csv"), ("a.gz", "text"),
        ("a.jsonl.zst", "jsonl"), ("a.ndjson.bz2", "jsonl"), ("a.parquet", "parquet"), ("a.gz.parquet", "parquet"),
        ("csv", "text"), (".csv", "text"),
    ],
)  # fmt: skip
def test_formats_by_suffix(name: str, format: str) -> None:
    assert format_of(name) == format


def test_a_given_format_wins(tmp_path: Path) -> None:
    touch(tmp_path, "a.csv")
    assert resolve_inputs([tmp_path], "text")[0].format == "text"


sizes = st.lists(st.integers(0, 5_000), max_size=40)
formats = st.sampled_from(["text", "csv", "jsonl", "whole", "text.gz"])


@given(st.lists(st.tuples(st.integers(0, 5_000), formats), max_size=40), st.integers(1, 6_000))
def test_tasks_cover_all_input_once_in_order(files: list[tuple[int, str]], split_bytes: int) -> None:
    inputs = []
    for number, (size, kind) in enumerate(files):
        format, _, suffix = kind.partition(".")
        inputs.append(InputFile(f"/{number}.{suffix or 'x'}", size, format, f"{number}"))
    tasks = plan_tasks(inputs, split_bytes)
    splits = [split for task in tasks for split in task]
    covered = []
    for file in inputs:
        mine = [split for split in splits if split.path == file.path]
        covered += mine
        assert bool(mine) == (file.size_bytes > 0 or file.format == "whole")
        assert sum(split.length for split in mine) == sum(split.size_bytes for split in mine) == file.size_bytes
        assert [split.start for split in mine] == [sum(s.length for s in mine[:i]) for i in range(len(mine))]
        if file.format not in ("text", "jsonl") or file.path.endswith(".gz"):
            assert len(mine) <= 1
        else:
            assert all(split.length <= split_bytes for split in mine)
    assert splits == covered
    for task in tasks:
        assert len(task) == 1 or sum(split.size_bytes for split in task) <= split_bytes
    for one, two in itertools.pairwise(tasks):  # nothing that fits is left for the next task
        assert sum(split.size_bytes for split in one) + two[0].size_bytes > split_bytes


def test_many_small_files_make_few_tasks() -> None:
    files = [InputFile(f"/{n}", 1000, "text") for n in range(5000)]
    assert len(plan_tasks(files, None)) == 5
    assert plan_tasks([], None) == ()
    assert plan_tasks([InputFile("/empty", 0, "text")], None) == ()


@pytest.mark.parametrize(
    ("total", "tasks"), [(1, 1), (MIB, 1), (MIB + 1, 2), (32 * MIB, 32), (1024 * MIB, 32), (4096 * MIB, 64)]
)
def test_auto_split_size_depends_on_the_input_alone(total: int, tasks: int) -> None:
    assert len(plan_tasks([InputFile("/x", total, "text")], None)) == tasks


@pytest.mark.parametrize(
    ("total", "reducers"),
    [(0, 1), (8 * MIB, 1), (8 * MIB + 1, 2), (64 * MIB, 8), (512 * MIB, 8), (10**9, 15), (10**15, 1000)],
)
def test_default_reducers(total: int, reducers: int) -> None:
    assert default_reducers(total) == reducers


def test_a_file_of_a_named_machine(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text("x\n")
    inputs = [f"file://left{tmp_path}/a", f"file://right{tmp_path}/b", f"file://{tmp_path}/c"]
    files = resolve_inputs(inputs, None)
    assert [file.name for file in files] == [str(tmp_path / name) for name in "abc"]
    tasks = plan_tasks(files, None)
    assert [[split.hosts for split in task] for task in tasks] == [[("left",)], [("right",)], [()]]  # never packed
    with pytest.raises(InputMissing, match="file://HOST/PATH"):
        resolve_inputs(["file://left"], None)


WAREHOUSE = """
def storage(uri):
    path = uri.removeprefix("warehouse://").replace("ROOT", {root!r})
    return path, hosts

def hosts(path, start, length):
    if path.endswith("odd.txt"):
        raise LookupError("no such object")
    return [f"node{{start // 4}}", "spare"]
"""


@pytest.fixture
def warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package with a storage for ``warehouse://ROOT/…``, which lies in the folder that is returned."""
    root, package = tmp_path / "root", tmp_path / "installed"
    (package / "warehouse-1.dist-info").mkdir(parents=True)
    (package / "warehouse-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: warehouse\nVersion: 1\n")
    (package / "warehouse-1.dist-info" / "entry_points.txt").write_text(
        "[gristmill.storage]\nwarehouse = warehouse_storage:storage\nbroken = warehouse_storage:nothing\n"
    )
    (package / "warehouse_storage.py").write_text(WAREHOUSE.format(root=str(root)))
    monkeypatch.syspath_prepend(package)
    monkeypatch.delitem(sys.modules, "warehouse_storage", raising=False)  # that of another test has another root
    root.mkdir()
    return root


def test_a_storage_says_where_a_uri_lies_and_who_is_near_each_split(warehouse: Path) -> None:
    (warehouse / "a.txt").write_text("12\n34\n56\n")
    (warehouse / "b.csv").write_text("x\n1\n2\n3\n")
    files = resolve_inputs(["warehouse://ROOT/*"], None)
    assert [(Path(file.path).name, file.format) for file in files] == [("a.txt", "text"), ("b.csv", "csv")]
    splits = [split for task in plan_tasks(files, 4) for split in task]
    assert [(Path(split.path).name, split.start, split.hosts) for split in splits] == [
        ("a.txt", 0, ("node0", "spare")),
        ("a.txt", 4, ("node1", "spare")),
        ("a.txt", 8, ("node2", "spare")),
        ("b.csv", 0, ("node0", "spare")),
    ]


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("warehouse://ROOT/odd.txt", r"The storage of warehouse:// fails: LookupError: no such object"),
        ("broken://ROOT/a", r"The storage of broken:// fails: AttributeError"),
    ],
)
def test_a_storage_that_fails_is_named(warehouse: Path, uri: str, words: str) -> None:
    (warehouse / "odd.txt").write_text("12\n")
    with pytest.raises(InputUnreadable, match=words):
        plan_tasks(resolve_inputs([uri], None), None)
