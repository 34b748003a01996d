"""What the storage tests share."""

from __future__ import annotations

import resource
import zlib
from collections.abc import Callable, Iterator

import pytest
from s3_server import ENVIRONMENT, s3_server

from gristmill.storage.filesystems import open_filesystem


@pytest.fixture
def limit_files() -> Iterator[Callable[[int], None]]:
    """Sets a limit on the size of files, which stands in for a full disk: writing beyond it fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size_bytes: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))

    try:
        yield limit
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    """Where a server of the S3 protocol listens."""
    with s3_server() as url:
        yield url


@pytest.fixture
def bucket(endpoint: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket of the test's own."""
    for name, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL": endpoint}.items():
        monkeypatch.setenv(name, value)
    made = f"b{zlib.crc32(request.node.nodeid.encode())}"
    store, _ = open_filesystem(f"s3://{made}/?allow_bucket_creation=true")
    store.create_dir(made)
    return made
