"""Which paths are below a root, through links, globs and dots."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill.errors import PathNotAllowed, UsageError
from gristmill.service.doors.paths import Roots, check_paths


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with links that lead out of it, and one that does not; beside it what must not be read."""
    root, other = tmp_path / "root", tmp_path / "other"
    for folder in (root / "deep", other, tmp_path / "root-too"):
        folder.mkdir(parents=True)
    for file in (root / "in.txt", root / "deep" / "in.txt", other / "secret.txt"):
        file.write_text("a\n")
    (root / "out").symlink_to(other)
    (root / "secret").symlink_to(other / "secret.txt")
    (root / "gone").symlink_to(other / "not-there-yet")
    (root / "again").symlink_to(root / "deep")
    (root / "up").symlink_to("..")
    (root / "low").symlink_to(root / "deep" / "low")
    (tmp_path / "in").symlink_to(root)
    return root


def is_allowed(root: Path, path: str) -> bool:
    try:
        check_paths([path], [str(root)])
    except PathNotAllowed:
        return False
    return True


@pytest.mark.parametrize(
    "path",
    [
        "",
        "in.txt",
        "deep",
        "deep/in.txt",
        "new",
        "new/newer/newest",
        "again/in.txt",
        "again/new",
        "*.txt",
        "deep/*",
        "**/*.txt",
        "deep/../in.txt",
        "./in.txt",
        "up/root/in.txt",
        "out/../root/in.txt",
        "in[1].txt",
        "new*/x?",
        "a b",
        "deep/",
    ],
)
def test_below_the_root(root: Path, path: str) -> None:
    assert is_allowed(root, f"{root}/{path}")
    assert is_allowed(root, f"file://{root}/{path}")
    assert is_allowed(root.parent / "in", f"{root}/{path}"), "a root that is a link"


@pytest.mark.parametrize(
    "path",
    [
        "..",
        "../other/secret.txt",
        "../root-too",
        "../root-too/x",
        "out",
        "out/secret.txt",
        "out/new",
        "secret",
        "gone",
        "gone/x",
        "again/../../x",
        "low/../../x",
        "deep/../../other/secret.txt",
        "up/other/secret.txt",
        "up",
        "out/*",
        "*/../../other/*",
        "up/o*/secret.txt",
        "new/../../other/secret.txt",
        "again/../../other/secret.txt",
        "\0",
        "in.txt\0",
    ],
)
def test_outside_of_the_root(root: Path, path: str) -> None:
    assert not is_allowed(root, f"{root}/{path}")
    assert not is_allowed(root, f"file://{root}/{path}")
    assert not is_allowed(root, f"file://elsewhere{root}/{path}")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "",
        "/etc/passwd",
        "relative",
        "file:///etc/passwd",
        "file://",
        "FILE:///etc",
        "s3://bucket/key",
        "http://host/x",
        "simplecache::s3://b/k",
        "file:///%2e%2e/etc",
    ],
)
def test_somewhere_else(root: Path, path: str) -> None:
    assert not is_allowed(root, path)


def test_escapes_in_a_file_uri_are_undone_first(root: Path) -> None:
    assert is_allowed(root, f"file://{root}/in%2Etxt")
    assert not is_allowed(root, f"file://{root}/%2e%2e/other/secret.txt")
    assert not is_allowed(root, f"file://{root}/deep%2f..%2f..%2fother")


def test_relative_paths_are_the_servers(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    assert is_allowed(root, "in.txt")
    assert not is_allowed(root, "../other/secret.txt")
    assert not is_allowed(root, "out/secret.txt")


S3 = "s3://bucket/data/team"


@pytest.mark.parametrize(
    "uri",
    [S3, f"{S3}/", f"{S3}/in.txt", f"{S3}/a/b", f"{S3}/*.txt", f"{S3}/**", "s3a://bucket/data/team/x", f"{S3}/x?_="],
)
def test_below_a_prefix(uri: str) -> None:
    check_paths([uri], [S3])


@pytest.mark.parametrize(
    "uri",
    [
        "s3://bucket/data",
        "s3://bucket/data/teams",
        "s3://bucket/data/*",
        "s3://bucket/data/te*/x",
        "s3://other/data/team/x",
        "gs://bucket/data/team/x",
        f"{S3}/../x",
        f"{S3}/./x",
        f"{S3}//x",
        f"{S3}/%2e%2e/x",
        f"{S3}/%252e%252e/x",
        f"{S3}/..%2fx",
        f"{S3}/a\\..\\x",
        "s3://user@bucket/data/team/x",
        f"{S3}/x?endpoint_override=evil.test",
        "s3://Bucket/data/team",
        "s3:///bucket/data/team",
        "/bucket/data/team",
        f"{S3}/x?region=a&endpoint_override=evil.test",
    ],
)
def test_outside_of_a_prefix(uri: str) -> None:
    with pytest.raises(PathNotAllowed):
        check_paths([uri], [S3])


def test_options_are_those_of_the_root() -> None:
    root = f"{S3}?endpoint_override=store.test&scheme=http&attempts=2"
    for right in ("endpoint_override=store.test&scheme=http", "scheme=http&attempts=2&endpoint_override=store.test"):
        check_paths([f"{S3}/x?{right}"], [root])
    for wrong in (
        "", "?_=", "?endpoint_override=store.test", "?endpoint_override=evil.test&scheme=http",
        "?endpoint_override=store.test&scheme=http&attempts=9", "?endpoint_override=store.test&scheme=http&role_arn=r",
        "?endpoint_override=store.test&endpoint_override=evil.test&scheme=http",
        "?endpoint_override=store%2Etest&scheme=http",
    ):  # fmt: skip
        with pytest.raises(PathNotAllowed, match="with other options") as failed:
            check_paths([f"{S3}/x{wrong}"], [root])
        assert "test" not in str(failed.value).replace("store", "")
    with pytest.raises(PathNotAllowed, match="is outside of"):
        check_paths(["s3://other/x?endpoint_override=store.test&scheme=http"], [root])


@pytest.mark.parametrize("option", ["endpoint_override=127.0.0.1:9", "role_arn=arn:aws:iam::1:role/x", "scheme=http"])
@pytest.mark.parametrize("scheme", ["s3", "gs", "s3a", "abfs", "hdfs", "http"])
def test_no_option_is_allowed_that_no_root_names(scheme: str, option: str) -> None:
    root = f"{scheme}://bucket/data"
    check_paths([f"{root}/x"], [root])
    with pytest.raises(PathNotAllowed, match="with other options"):
        check_paths([f"{root}/x?{option}"], [root])


def test_secrets_are_not_shown() -> None:
    with pytest.raises(PathNotAllowed) as failed:
        check_paths(["s3://key:secret@bucket/x?access_key=hidden"], ["s3://bucket/data"])
    assert "secret" not in str(failed.value) and "hidden" not in str(failed.value)
    assert "--allow-path" in str(failed.value)


def test_without_roots_all_is_allowed() -> None:
    check_paths(["/etc/passwd", "s3://b/x", "\0"], [])


def test_roots_that_are_none(tmp_path: Path) -> None:
    for root in (str(tmp_path / "missing"), "simplecache::s3://b", "s3://"):
        with pytest.raises(UsageError, match="--allow-path"):
            Roots([root])


@given(
    st.lists(
        st.sampled_from(["..", ".", "deep", "out", "up", "again", "new", "in.txt", "root", "other", "gone"]), max_size=7
    )
)
def test_whatever_is_allowed_lies_below(tmp_path_factory: pytest.TempPathFactory, parts: list[str]) -> None:
    """Against what the system itself makes of a path."""
    base = tmp_path_factory.getbasetemp() / "laws"
    if not base.exists():
        base.mkdir()
        build(base)
    path = os.path.join(base / "root", *parts)  # noqa: PTH118
    reals = os.path.realpath(path), os.path.realpath(os.path.abspath(path))  # noqa: PTH100 - for those who look at the text
    below = all(real == str(base / "root") or real.startswith(f"{base / 'root'}/") for real in reals)
    assert is_allowed(base / "root", path) == below


def build(base: Path) -> None:
    root, other = base / "root", base / "other"
    (root / "deep").mkdir(parents=True)
    other.mkdir()
    (root / "in.txt").write_text("a\n")
    (root / "out").symlink_to(other)
    (root / "gone").symlink_to(other / "not-there-yet")
    (root / "again").symlink_to(root / "deep")
    (root / "up").symlink_to("..")
