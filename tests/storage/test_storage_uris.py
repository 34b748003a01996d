"""Inputs behind URIs: listed, cut, read and refused, by a real server of the S3 protocol."""

from __future__ import annotations

import gzip
import json
import socket
from pathlib import Path
from urllib.parse import quote

import fastavro
import fsspec
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.orc as orc
import pyarrow.parquet as pq
import pytest
from reading_kit import BIG, options, read, splits_of

from gristmill.config import KIB
from gristmill.errors import InputMissing, InputUnreachable, InputUnreadable, RecordMalformed, UsageError
from gristmill.storage.contracts import Split
from gristmill.storage.filesystems import open_filesystem
from gristmill.storage.formats import open_batches, open_split
from gristmill.storage.inputs import resolve_inputs
from gristmill.storage.object_listing import matches
from gristmill.storage.uris import as_given, bare, file_name, has_bare_secret, options_of, shown, sibling


@pytest.fixture
def place(bucket: str) -> str:
    """A bucket of its own."""
    return f"s3://{bucket}"


def put(uri: str, data: bytes) -> None:
    store, path = open_filesystem(uri)
    with store.open_output_stream(path, compression=None) as stream:
        stream.write(data)


def names(uri: str, place: str) -> list[str]:
    return [bare(file.path).removeprefix(f"{place}/") for file in resolve_inputs([uri], None)]


# Listing


def test_prefixes_and_globs_are_read_as_directories_and_globs_of_a_disk_are(place: str, tmp_path: Path) -> None:
    keys = [
        "b.log",
        "a/z.log",
        "a/b/c.log",
        "_tmp/x.log",
        "a/.git/y.log",
        "a.d/q.txt",
        "a/_s.log",
        "c d/e.log",
        "a/1%3D.log",
    ]
    for key in keys:
        put(f"{place}/in/{key}", key.encode())
        (tmp_path / "in" / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / key).write_text(key)
    patterns = "in in/ in/a in/*.log in/**/*.log in/a* in/** in/*/*.log in/[bc]* in/a/?.log in/**/b/* in/b.log in/_tmp"
    for pattern in [*patterns.split(), "in/_tmp/*", "in/a/_s.log", "i*/b.log"]:
        local = [str(Path(file.path).relative_to(tmp_path)) for file in resolve_inputs([f"{tmp_path}/{pattern}"], None)]
        assert names(f"{place}/{pattern}", place) == local, pattern
        assert read(f"{place}/{pattern}") == read(f"{tmp_path}/{pattern}")


def test_a_file_has_its_size_time_and_name(place: str) -> None:
    put(f"{place}/x/a.csv.gz", gzip.compress(b"n\n1\n"))
    (file,) = resolve_inputs([f"{place}/x/"], None)
    assert file.name == file.place == f"{place}/x/a.csv.gz"
    assert file.size_bytes == len(gzip.compress(b"n\n1\n"))
    assert file.changed_ns > 1_700_000_000 * 10**9
    assert file.format == "csv"
    assert not file.is_local
    assert read(f"{place}/x/") == [{"n": "1"}]


def test_what_is_not_there_is_named(place: str) -> None:
    put(f"{place}/x/_hidden", b"x")
    with pytest.raises(InputMissing, match=rf"The input {place}/nothing does not exist\."):
        resolve_inputs([f"{place}/nothing"], None)
    with pytest.raises(InputMissing, match=rf"The input {place}/x/\*\.txt matches no file"):
        resolve_inputs([f"{place}/x/*.txt"], None)
    with pytest.raises(InputMissing, match=rf"The input {place}/x holds no files"):
        resolve_inputs([f"{place}/x"], None)
    with pytest.raises(InputMissing, match=r"no-such-bucket/x does not exist"):
        resolve_inputs(["s3://no-such-bucket/x"], None)
    with pytest.raises(UsageError, match=r"s3:///x names no bucket"):
        resolve_inputs(["s3:///x"], None)
    with pytest.raises(UsageError, match=r"has no option 'regoin'; there are: region"):
        resolve_inputs([f"{place}/x?regoin=eu"], None)


def test_an_object_that_vanishes_fails_its_task_by_name(place: str) -> None:
    put(f"{place}/a.txt", b"one\n")
    put(f"{place}/a.parquet", b"")
    (split,) = splits_of(f"{place}/a.txt")
    store, path = open_filesystem(split.path)
    store.delete_file(path)
    with pytest.raises(RecordMalformed, match=rf"The input {place}/a\.txt cannot be read: it is not there any more"):
        list(open_split(split, BIG))


def test_only_files_that_an_output_lists_are_read(place: str) -> None:
    for name in ["part-0", "sub=1/part-1", "part-0-other-attempt"]:
        put(f"{place}/data/out/{name}", f"{name}\n".encode())
    put(f"{place}/data/loose", b"loose\n")
    listed = [{"name": name, "bytes": 10, "rows": 1} for name in ("part-0", "sub=1/part-1")]
    put(f"{place}/data/out/_SUCCESS", json.dumps({"job_id": "1", "files": listed}).encode())
    assert read(f"{place}/data/out") == ["part-0", "sub=1/part-1"]
    assert read(f"{place}/data") == ["loose", "part-0", "sub=1/part-1"]
    assert read(f"{place}/data/out/part-*") == ["part-0"]
    assert read(f"{place}/data/out/*/part-*") == ["sub=1/part-1"]
    assert read(f"{place}/data/out/sub=1/*") == ["sub=1/part-1"]
    store, path = open_filesystem(f"{place}/data/out/part-0")
    store.delete_file(path)
    with pytest.raises(InputMissing, match=r"data/out lacks part-0, which its _SUCCESS lists"):
        read(f"{place}/data")


def test_folders_are_columns_and_filters_skip_objects(place: str) -> None:
    for year in (2023, 2024):
        put(f"{place}/t/year={year}/a.jsonl", b'{"x": 1}\n' if year == 2024 else b"no json\n")
    assert read(f"{place}/t", options(filter=[("year", "==", 2024)])) == [{"x": 1, "year": 2024}]


# Reading


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_lines_of_large_objects_come_once_however_they_are_cut(place: str, suffix: str) -> None:
    lines = [f"line {number} {'x' * (number % 97)}" for number in range(20_000)]
    data = "\n".join(lines).encode()
    put(f"{place}/big.txt{suffix}", gzip.compress(data) if suffix else data)
    for split_bytes in (BIG, 300 * KIB, 100_001):
        assert read(f"{place}/big.txt{suffix}", split_bytes=split_bytes) == lines
    split = splits_of(f"{place}/big.txt{suffix}", split_bytes=300 * KIB)[-1]
    block = next(iter(open_split(split, BIG)))
    assert block.offset_of(9) == data.index(block.values[9].encode())


def test_each_format_is_read(place: str, tmp_path: Path) -> None:
    rows = [{"n": n, "s": f"row {n}"} for n in range(500)]
    table = pa.Table.from_pylist(rows)
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=50)
    orc.write_table(table, tmp_path / "a.orc", stripe_size=500, batch_size=50)
    fields = [{"name": "n", "type": "long"}, {"name": "s", "type": "string"}]
    with (tmp_path / "a.avro").open("wb") as stream:
        fastavro.writer(stream, {"type": "record", "name": "r", "fields": fields}, rows, sync_interval=500)
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for format in ("parquet", "orc", "avro", "jsonl"):
        put(f"{place}/a.{format}", (tmp_path / f"a.{format}").read_bytes())
        for split_bytes in (BIG, 1000):
            assert read(f"{place}/a.{format}", split_bytes=split_bytes) == rows
        given = options(columns=["s"], filter=[("n", ">=", 420)])
        assert read(f"{place}/a.{format}", given) == [{"s": row["s"]} for row in rows[420:]]
    (split,) = splits_of(f"{place}/a.parquet", options(filter=[("n", ">=", 420)]))
    assert (split.start, split.length) == (8, 2)
    assert sum(batch.num_rows for batch in open_batches(split)) == 80
    assert read(f"{place}/a.jsonl", format="whole") == [(tmp_path / "a.jsonl").read_text()]


def test_what_is_no_parquet_is_named(place: str) -> None:
    put(f"{place}/a.parquet", b"something else")
    with pytest.raises(InputUnreadable, match=rf"{place}/a\.parquet (is not a readable parquet file|cannot be read)"):
        splits_of(f"{place}/a.parquet")


def test_footers_of_many_objects_are_read_at_once(place: str) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"x": [1]}), sink)
    for number in range(40):
        put(f"{place}/many/{number:02d}.parquet", sink.getvalue().to_pybytes())
    splits = splits_of(f"{place}/many")
    assert [file_name(split.path) for split in splits] == [f"{number:02d}.parquet" for number in range(40)]


# Options and secrets


def test_options_travel_with_each_split_and_secrets_are_not_shown(
    place: str, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(f"{place}/x/a.txt", b"one\n")
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    secret = quote("top/secret", safe="")
    uri = f"s3://someone:{secret}@{place[5:]}/x?endpoint_override={quote(endpoint, safe='')}&region=us-east-1"
    assert read(uri) == ["one"]
    (split,) = splits_of(uri)
    assert split.path.startswith(f"s3://someone:{secret}@{place[5:]}/x/a.txt?endpoint_override=")
    assert split.name == f"{place}/x/a.txt"
    with pytest.raises(InputMissing) as missing:
        read(uri.replace("/x?", "/y?"))
    assert "secret" not in str(missing.value)
    assert endpoint not in str(missing.value)


def test_a_storage_that_does_not_answer_is_named_within_bounds(
    place: str,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
        silent = f"?endpoint_override=http://127.0.0.1:{port}&attempts=1&request_timeout=1&connect_timeout=1"
        with pytest.raises(InputUnreadable, match=rf"The input {place}/a\.txt cannot be read: .*NETWORK_CONNECTION"):
            resolve_inputs([f"{place}/a.txt{silent}"], None)
        for name, format in (("a.txt", "text"), ("a.parquet", "parquet")):
            split = Split(f"{place}/{name}{silent}", 0, 4, 4, format, f"{place}/{name}")
            with pytest.raises(InputUnreachable, match=rf"The input {place}/{name} cannot be read: .*NETWORK_CONNE"):
                list(open_split(split, BIG))


# Other file systems


def test_what_arrow_does_not_know_is_opened_by_fsspec() -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe({"/kit/in/b.txt": b"b\n", "/kit/in/k=1/a.jsonl": b'{"x": 1}\n', "/kit/in/_x": b"no\n"})
    try:
        assert read("memory://kit/in") == ["b", {"x": 1, "k": 1}]
        assert read("memory://kit/in/*.txt") == ["b"]
        assert read("memory://kit/in/b.txt", split_bytes=1) == ["b"]
        with pytest.raises(InputMissing, match="memory://kit/out does not exist"):
            read("memory://kit/out")
    finally:
        memory.rm("/kit", recursive=True)


def test_whatever_comes_out_of_fsspec_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "odd_kit_system.py").write_text(
        "from fsspec import AbstractFileSystem\n"
        "class Odd(AbstractFileSystem):\n"
        "    protocol = 'oddkit'\n"
        "    def info(self, path, **_):\n"
        "        raise LookupError(f'no {path} today')\n"
        "    ls = info\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    fsspec.register_implementation("oddkit", "odd_kit_system.Odd", clobber=True)
    with pytest.raises(InputUnreadable, match=r"oddkit://box/a\.txt cannot be read: no box/a\.txt today"):
        read("oddkit://box/a.txt")
    with pytest.raises((InputUnreachable, RecordMalformed), match=r"oddkit://box/a\.txt cannot be read"):
        list(open_split(Split("oddkit://box/a.txt", 0, 4, 4, "text"), BIG))


def test_what_nobody_knows_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputUnreadable, match=r"neither Arrow nor fsspec knows wherever://"):
        read("wherever://x/y")
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
    with pytest.raises(InputUnreadable, match=r"nothing here knows memory://\. Install fsspec"):
        read("memory://x/y")


def test_what_fsspec_lacks_is_named() -> None:
    with pytest.raises(InputUnreadable, match=r"paramiko.* what fsspec needs for sftp://"):
        read("sftp://host/file")


def test_google_and_hadoop_are_arrows() -> None:
    system, path = open_filesystem("gs://bucket/a%20b/c?anonymous=true&endpoint_override=127.0.0.1:1&scheme=http")
    assert isinstance(system, pafs.GcsFileSystem)
    assert path == "bucket/a%20b/c"
    with pytest.raises(InputUnreadable, match=r"The input gs://bucket/x cannot be read"):
        read("gs://bucket/x?anonymous=true&endpoint_override=127.0.0.1:1&scheme=http&request_timeout=1")


def test_hadoop_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JAVA_HOME", "HADOOP_HOME", "CLASSPATH"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputUnreadable) as error:
        read("hdfs://namenode.invalid:8020/x")
    assert "JAVA_HOME, HADOOP_HOME and CLASSPATH" in str(error.value)
    assert len(str(error.value)) < 700


def test_connections_are_kept(place: str) -> None:
    assert open_filesystem(f"{place}/a")[0] is open_filesystem(f"{place}/b")[0]
    assert open_filesystem(f"{place}/a")[0] is not open_filesystem(f"{place}/a?connect_timeout=3s")[0]


# URIs as text


@pytest.mark.parametrize(
    ("uri", "plain", "found"),
    [
        ("s3://b/k", "s3://b/k", {}),
        ("s3://b/k?region=eu&scheme=http", "s3://b/k", {"region": "eu", "scheme": "http"}),
        ("s3://b/part-?.txt", "s3://b/part-?.txt", {}),
        ("s3://b/part-?", "s3://b/part-?", {}),
        ("s3://b/k?endpoint_override=http://h:1/", "s3://b/k", {"endpoint_override": "http://h:1/"}),
        ("s3://b/k?endpoint_override=http%3A%2F%2Fh", "s3://b/k", {"endpoint_override": "http://h"}),
        ("s3://b/k?a=b?_=", "s3://b/k?a=b", {}),
        ("https://h/x?a=b", "https://h/x?a=b", {}),
        ("/a?b=c", "/a?b=c", {}),
    ],
)
def test_options_are_told_from_keys(uri: str, plain: str, found: dict[str, str]) -> None:
    assert bare(uri) == plain
    assert options_of(uri) == found
    assert bare(as_given(plain)) == plain
    assert bare(sibling(uri, plain)) == plain
    assert options_of(sibling(uri, plain)) == found


def test_what_is_shown_holds_no_secrets() -> None:
    assert shown("s3://key:secret@b/k#1?region=x") == "s3://b/k#1"
    assert shown("https://u:p@h/x?token=1") == shown("https://u:p/q@h/x") == "https://h/x"
    assert shown("s3://key:se/cr@et@b/k@1") == "s3://b/k@1", "what was to be escaped and is not"
    assert shown("abfs://box:s/ecret@account.net/x") == "abfs://box@account.net/x"
    assert shown("webdav://u@h/x?token=1") == "webdav://h/x"
    assert shown("simplecache::s3://key:secret@b/x") == "simplecache::s3://b/x"
    assert shown("hdfs://me@host:8020/a@b") == "hdfs://host:8020/a@b" and shown("s3://b/a:b@c") == "s3://b/a:b@c"
    assert shown("abfs://box@account.dfs.core.windows.net/x") == "abfs://box@account.dfs.core.windows.net/x"
    assert shown("/plain/a@b?c=d") == "/plain/a@b?c=d"


def test_a_secret_that_is_not_escaped_is_refused_and_not_shown() -> None:
    for uri in ("s3://key:se/cret@b/k?region=x", "gs://key:se/cret@b/k", "abfs://box:se/cret@account.net/x"):
        with pytest.raises(UsageError, match="write %2F") as refused:
            open_filesystem(uri)
        assert "se/cret" not in str(refused.value) and "@b" not in str(refused.value)
    assert not has_bare_secret("s3://key:secret@b/k@1") and not has_bare_secret("/a:b/c@d")


def test_globs_match_as_on_a_disk() -> None:
    assert matches(("**", "x"), ("a", "b", "x"))
    assert matches(("**", "x"), ("x",))
    assert not matches(("*", "x"), ("x",))
    assert matches(("a*",), ("ab", "c"))
    assert not matches(("*.txt",), ("a.csv",))
