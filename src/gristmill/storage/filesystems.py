"""File systems behind URIs: ``s3://``, ``gs://``, ``hdfs://``, ``abfs://`` by Arrow, all others by fsspec.

A connection is made when it is first used, is kept for the process, and waits within bounds. Credentials come from the
environment (``AWS_ACCESS_KEY_ID`` and ``AWS_SECRET_ACCESS_KEY``, a profile, a machine's role;
``GOOGLE_APPLICATION_CREDENTIALS``), which every worker has for itself; options from the URI's query.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from gristmill.config import parse_duration
from gristmill.errors import GristmillError, InputMissing, InputUnreadable, UsageError
from gristmill.storage.uris import (
    PYARROW_SCHEMES,
    authority_and_key,
    bare,
    has_bare_secret,
    options_of,
    scheme_of,
    shown,
)

if TYPE_CHECKING:
    import pyarrow.fs as pafs

_CONNECT_SECONDS = 10.0
_REQUEST_SECONDS = 30.0  # without a byte
_ATTEMPTS = 4
_GCS_SECONDS = 60.0  # for one request with all that is tried again
_MAX_REASON = 300

_S3_OPTIONS = ("region", "endpoint_override", "scheme", "anonymous", "role_arn", "allow_bucket_creation",
               "force_virtual_addressing", "connect_timeout", "request_timeout", "attempts")  # fmt: skip
_GCS_OPTIONS = ("endpoint_override", "scheme", "anonymous", "project_id", "request_timeout")
_IDENTITY = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_CONFIG_FILE",
             "GOOGLE_APPLICATION_CREDENTIALS")  # fmt: skip


def open_filesystem(uri: str) -> tuple[pafs.FileSystem, str]:
    """The file system of a URI, and what the URI names there.

    Options of ``s3://`` are ``region``, ``endpoint_override``, ``scheme``, ``anonymous``, ``role_arn``,
    ``connect_timeout``, ``request_timeout`` and ``attempts``; an endpoint is else that of ``AWS_ENDPOINT_URL_S3`` or
    ``AWS_ENDPOINT_URL``, a region that of ``AWS_REGION`` or ``AWS_DEFAULT_REGION``, else the bucket's own.

    Raises:
        InputUnreadable: there is no such file system, or it needs what is not installed.
        UsageError: it has no such option.
    """
    if has_bare_secret(uri):
        raise UsageError(f"The secret in the URI {shown(uri)} has a / in it: write %2F for that.")
    scheme = scheme_of(uri)
    place = bare(uri)
    make = _BY_SCHEME.get(scheme)
    if make is None:
        return _by_fsspec(place)
    return make(place, options_of(uri))


@contextmanager
def naming(uri: str) -> Iterator[None]:
    """Gives what goes wrong with a file system the URI's name, without secrets.

    Raises:
        InputMissing: there is no such file, directory or bucket.
        InputUnreadable: anything else.
    """
    try:
        yield
    except GristmillError:
        raise
    except errors_of(uri) as error:
        raise failure(error, uri) from None


def errors_of(uri: str) -> tuple[type[Exception], ...]:
    """What a file system raises: Arrow's own errors are one of two; of others anything may come."""
    return (OSError, ValueError) if scheme_of(uri) in PYARROW_SCHEMES else (Exception,)


def failure(error: Exception, uri: str) -> UsageError:
    """What a file system said, as an error that names the URI."""
    text = reason(error, uri)
    missing = isinstance(error, FileNotFoundError) or "NO_SUCH_BUCKET" in text or "NO_SUCH_KEY" in text
    if missing:
        what = "its bucket does not exist" if "NO_SUCH_BUCKET" in text else "it does not exist"
        return InputMissing(f"The input {shown(uri)} cannot be read: {what}.")
    if "ACCESS_DENIED" in text or "HTTP status 403" in text:
        text = f"access denied. See which credentials this process has. ({text})"
    return InputUnreadable(f"The input {shown(uri)} cannot be read: {text}")


def reason(error: Exception, uri: str) -> str:
    """What a file system said: one line, not long, and without secrets."""
    text = " ".join((str(error) or type(error).__name__).splitlines()[0].split())
    authority, _ = authority_and_key(bare(uri))
    secrets = [unquote(part) for part in authority.rpartition("@")[0].split(":")]
    secrets += [os.environ.get(name, "") for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")]
    for secret in secrets:
        if len(secret) > 3:
            text = text.replace(secret, "***")
    return text if len(text) <= _MAX_REASON else f"{text[:_MAX_REASON]}…"


def _s3(place: str, options: Mapping[str, str]) -> tuple[pafs.FileSystem, str]:
    _check(place, options, _S3_OPTIONS)
    authority, key = authority_and_key(place)
    user, _, bucket = authority.rpartition("@")
    environ = os.environ
    endpoint = options.get("endpoint_override") or environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL")
    region = options.get("region") or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    settings = {**options, "user": user}
    if endpoint:
        settings |= {"endpoint_override": endpoint, "region": region or "us-east-1"}
    elif region or not options.get("anonymous"):
        settings |= {"region": region or _region_of(os.getpid(), bucket)}
    return _connect(_connect_s3, settings), _joined(bucket, key)


def _connect_s3(settings: Mapping[str, str]) -> pafs.FileSystem:
    from pyarrow import fs

    given: dict[str, Any] = {
        name: settings[name] for name in ("region", "endpoint_override", "scheme", "role_arn") if settings.get(name)
    }
    for name in ("anonymous", "allow_bucket_creation", "force_virtual_addressing"):
        if name in settings:
            given[name] = settings[name].lower() in ("true", "1")
    if settings["user"]:
        key, _, secret = settings["user"].partition(":")
        given |= {"access_key": unquote(key), "secret_key": unquote(secret)}
    attempts = int(settings.get("attempts", _ATTEMPTS))
    return fs.S3FileSystem(
        connect_timeout=_seconds(settings, "connect_timeout", _CONNECT_SECONDS),
        request_timeout=_seconds(settings, "request_timeout", _REQUEST_SECONDS),
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=attempts),
        **given,
    )


@lru_cache(maxsize=256)
def _region_of(process: int, bucket: str) -> str:  # noqa: ARG001 - a fork asks for itself
    """Where a bucket lies; empty if that cannot be told."""
    from pyarrow import fs

    try:
        return str(fs.resolve_s3_region(bucket))
    except (OSError, ValueError):
        return ""  # what is wrong shows when the bucket is used


def _gcs(place: str, options: Mapping[str, str]) -> tuple[pafs.FileSystem, str]:
    _check(place, options, _GCS_OPTIONS)
    authority, key = authority_and_key(place)
    user, _, bucket = authority.rpartition("@")
    settings = dict(options)
    if user == "anonymous":
        settings["anonymous"] = "true"
    emulator = os.environ.get("STORAGE_EMULATOR_HOST", "")
    if emulator and "endpoint_override" not in settings:
        scheme, _, host = emulator.rpartition("://")
        settings |= {"endpoint_override": host.rstrip("/"), "scheme": scheme or "http", "anonymous": "true"}
    return _connect(_connect_gcs, settings), _joined(bucket, key)


def _connect_gcs(settings: Mapping[str, str]) -> pafs.FileSystem:
    from pyarrow import fs

    given = {name: settings[name] for name in ("endpoint_override", "scheme", "project_id") if name in settings}
    return fs.GcsFileSystem(
        anonymous=settings.get("anonymous", "").lower() in ("true", "1"),
        retry_time_limit=timedelta(seconds=_seconds(settings, "request_timeout", _GCS_SECONDS)),
        **given,
    )


def _by_arrow(place: str, options: Mapping[str, str]) -> tuple[pafs.FileSystem, str]:
    """By Arrow's own reading of the URI: ``hdfs://`` and ``abfs://``."""
    scheme = scheme_of(place)
    authority, key = authority_and_key(place)
    query = "&".join(f"{name}={value}" for name, value in options.items())
    root = f"{scheme}://{authority}/{'?' if query else ''}{query}"
    try:
        found = _connect(_connect_by_arrow, {"root": root})
    except ImportError as error:
        raise InputUnreadable(f"The input {shown(place)} cannot be read: this pyarrow has no {scheme}://.") from error
    except (OSError, ValueError) as error:
        advice = ""
        if "libjvm" in str(error) or "libhdfs" in str(error):
            advice = " HDFS needs Java and Hadoop's libhdfs here: set JAVA_HOME, HADOOP_HOME and CLASSPATH."
        raise InputUnreadable(f"The input {shown(place)} cannot be read: {reason(error, place)}.{advice}") from error
    if scheme in ("hdfs", "viewfs"):
        return found, f"/{key}"
    return found, _joined(authority.partition("@")[0], key)


def _connect_by_arrow(settings: Mapping[str, str]) -> pafs.FileSystem:
    from pyarrow import fs

    return fs.FileSystem.from_uri(settings["root"])[0]


def _by_fsspec(place: str) -> tuple[pafs.FileSystem, str]:
    scheme = scheme_of(place)
    try:
        import fsspec
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise InputUnreadable(
            f"The input {shown(place)} cannot be read: nothing here knows {scheme}://. Install fsspec, and the package "
            f"that brings {scheme}:// for it, here and on all workers."
        ) from error
    if scheme not in fsspec.available_protocols():
        raise InputUnreadable(
            f"The input {shown(place)} cannot be read: neither Arrow nor fsspec knows {scheme}://. Install the package "
            "that brings it for fsspec, here and on all workers."
        )
    from pyarrow import fs

    try:
        found, path = url_to_fs(place)
    except ImportError as error:
        raise InputUnreadable(
            f"The input {shown(place)} cannot be read: {reason(error, place).rstrip('.')}. That is what fsspec needs "
            f"for {scheme}://, here and on all workers."
        ) from error
    except Exception as error:  # somebody else's code: anything may come out of it
        raise InputUnreadable(f"The input {shown(place)} cannot be read: {reason(error, place)}") from error
    return fs.PyFileSystem(fs.FSSpecHandler(found)), path


def _connect(make: Callable[[Mapping[str, str]], pafs.FileSystem], settings: Mapping[str, str]) -> pafs.FileSystem:
    identity = tuple(os.environ.get(name, "") for name in _IDENTITY)
    return _connected(os.getpid(), make, tuple(sorted(settings.items())), identity)


@lru_cache(maxsize=64)
def _connected(
    process: int,  # noqa: ARG001 - connections do not survive a fork
    make: Callable[[Mapping[str, str]], pafs.FileSystem],
    settings: tuple[tuple[str, str], ...],
    identity: tuple[str, ...],  # noqa: ARG001 - other credentials, another connection
) -> pafs.FileSystem:
    return make(dict(settings))


def _check(place: str, options: Mapping[str, str], known: tuple[str, ...]) -> None:
    if authority_and_key(place)[0].rpartition("@")[2] == "":
        raise UsageError(f"{shown(place)} names no bucket.")
    for name in options:
        if name not in known:
            raise UsageError(f"{shown(place)} has no option {name!r}; there are: {', '.join(known)}.")


def _seconds(settings: Mapping[str, str], name: str, default: float) -> float:
    return parse_duration(settings[name]) if name in settings else default


def _joined(bucket: str, key: str) -> str:
    return f"{bucket}/{key.rstrip('/')}" if key.strip("/") else bucket


_BY_SCHEME: dict[str, Callable[[str, Mapping[str, str]], tuple[Any, str]]] = {
    "s3": _s3,
    "s3a": _s3,
    "s3n": _s3,
    "gs": _gcs,
    "gcs": _gcs,
    "hdfs": _by_arrow,
    "viewfs": _by_arrow,
    "abfs": _by_arrow,
    "abfss": _by_arrow,
}
