"""Datasets from and to an object store, on every fleet: a real server of the S3 protocol, outputs by their lists."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from operator import add
from pathlib import Path

import pytest
from chaos_cluster_kit import site
from dataset_fleets import session_on
from ray_kit import ray_cluster, ray_marks
from s3_server import ENVIRONMENT, s3_server

from gristmill import OutputExists, Session
from gristmill.storage.filesystems import open_filesystem
from gristmill.storage.manifest import read_manifest

LINES = [f"{'abc'[n % 3]} {n % 7} {n}" for n in range(900)]


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket with six files of lines. Whoever is started in the meantime finds the server."""
    with s3_server() as url, pytest.MonkeyPatch.context() as patch:
        for name, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL": url}.items():
            patch.setenv(name, value)
        store, _ = open_filesystem("s3://lines/?allow_bucket_creation=true")
        store.create_dir("lines")
        for number in range(6):
            with store.open_output_stream(f"lines/in/{number}.txt") as file:
                file.write("".join(f"{line}\n" for line in LINES[number * 150 : (number + 1) * 150]).encode())
        yield "s3://lines"


FLEETS = ["inline", "local", "server", pytest.param("ray", marks=[pytest.mark.soak, *ray_marks])]


@pytest.fixture(scope="module", params=FLEETS)
def session(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, bucket: str) -> Iterator[Session]:
    folder = tmp_path_factory.mktemp("objects")
    assert os.environ["AWS_ENDPOINT_URL"]
    if request.param == "server":
        with site(folder, workers=2) as at, Session(on=at.url, token_file=at.token_file) as opened:
            yield opened
    elif request.param == "ray":  # nodes that have the store's address and keys in their own environment
        with ray_cluster(folder) as nodes, nodes.joined(), session_on("ray", folder / "driver") as opened:
            yield opened
    else:
        with session_on(request.param, folder) as opened:
            yield opened


def dies_once(folder: Path) -> object:
    """A function that ends its process when it is first called."""

    def passed(elements: Iterator[str]) -> Iterator[str]:
        yield from elements
        try:
            (folder / "died").touch(exist_ok=False)
        except FileExistsError:
            return
        os._exit(9)

    return passed


def test_objects_in_and_out(request: pytest.FixtureRequest, session: Session, bucket: str, tmp_path: Path) -> None:
    out = f"{bucket}/{tmp_path.name}"
    lines = session.read_text(f"{bucket}/in")
    if "inline" not in request.node.name:  # there, it is the process of the tests
        lines = lines.map_partitions(dies_once(tmp_path))
    counts = lines.map(lambda line: (line.split()[0], 1)).reduce_by_key(add, partitions=3)
    counts.write_text(out)
    listed = read_manifest(out)
    assert listed is not None
    assert sorted(session.read_text(out).collect()) == ["('a', 300)", "('b', 300)", "('c', 300)"]
    with pytest.raises(OutputExists):
        counts.write_text(out)
    counts.write_text(out, mode="append")
    assert Counter(session.read_text(out).collect()) == {"('a', 300)": 2, "('b', 300)": 2, "('c', 300)": 2}
    counts.filter(lambda pair: pair[0] == "b").write_text(out, mode="overwrite")
    assert session.read_text(out).collect() == ["('b', 300)"]
    assert_clean(out)


def test_folders_that_are_columns(session: Session, bucket: str, tmp_path: Path) -> None:
    out = f"{bucket}/{tmp_path.name}"
    rows = session.read_text(f"{bucket}/in").map(str.split).map(lambda cells: dict(zip("xyz", cells, strict=True)))
    rows.write_parquet(out, partition_by=["x", "y"])
    back = session.read_parquet(out)
    assert sorted(int(row["z"]) for row in back.collect()) == list(range(900))
    few = session.read_parquet(out, filter=[("x", "==", "b")]).collect()
    assert sorted(int(row["z"]) for row in few) == list(range(1, 900, 3))
    assert_clean(out)


def assert_clean(out: str) -> None:
    """Nothing lies there but what the list names, and what readers skip by its name."""
    store, path = open_filesystem(out)
    from pyarrow.fs import FileSelector

    listed = read_manifest(out)
    assert listed is not None
    found = [
        info.path.removeprefix(f"{path}/")
        for info in store.get_file_info(FileSelector(path, recursive=True))
        if info.is_file
    ]
    assert {name for name in found if not name.startswith("_")} == {file.name for file in listed}
