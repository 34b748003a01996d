"""URIs of files on object stores and other file systems, as text. Keys are taken as they are: no escapes are undone.

What stands behind the last ``?`` are options, if it looks like them: ``s3://bucket/key?region=eu-west-1``. A key that
looks so itself is followed by :data:`_NO_OPTIONS`.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_plus

_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://")
_OPTION = r"[A-Za-z_]+=[^?&]*"
_OPTIONS = re.compile(rf"\?({_OPTION}(?:&{_OPTION})*)$")
_NO_OPTIONS = "?_="
_USER = re.compile(r"^[^/@]*:(?!\d*(?:/|$))[^@]*@")  # a secret may have a slash in it that was to be escaped
_PASSWORD = re.compile(r"^([^/@:]*):[^@]*@")
_CHAINED_USER = re.compile(r"://[^/@]*@")  # of what only looks like a URI

OBJECT_SCHEMES = ("s3", "s3a", "s3n", "gs", "gcs")
PYARROW_SCHEMES = (*OBJECT_SCHEMES, "hdfs", "viewfs", "abfs", "abfss")


def is_uri(name: str) -> bool:
    """Whether a name is a URI, and not a path of this machine."""
    return _URI.match(name) is not None


def scheme_of(uri: str) -> str:
    """``s3`` of ``s3://bucket/key``; empty for a path."""
    match = _URI.match(uri)
    return match[1].lower() if match else ""


def bare(uri: str) -> str:
    """A URI without its options."""
    return uri.removesuffix(_options_text(uri))


def options_of(uri: str) -> dict[str, str]:
    """The options of a URI."""
    pairs = (pair.partition("=") for pair in _options_text(uri)[1:].split("&") if pair)
    return {name: unquote_plus(value) for name, _, value in pairs if name != "_"}


def sibling(uri: str, place: str) -> str:
    """Another place with the options of ``uri``.

    Args:
        uri: a URI.
        place: another one, bare, of the same file system.
    """
    text = _options_text(uri)
    return f"{place}{text}" if text else as_given(place)


def as_given(place: str) -> str:
    """A bare URI as one that :func:`bare` does not change."""
    return f"{place}{_NO_OPTIONS}" if _options_text(place) else place


def authority_and_key(uri: str) -> tuple[str, str]:
    """``user:secret@bucket`` and ``folder/file`` of a bare URI."""
    authority, _, key = uri[len(scheme_of(uri)) + 3 :].partition("/")
    return authority, key


def shown(uri: str) -> str:
    """A URI for people: without user, password and options, which may hold secrets. A path is as it is."""
    scheme = scheme_of(uri)
    if not scheme:
        return _CHAINED_USER.sub("://", uri)
    rest = bare(uri)[len(scheme) + 3 :]
    if scheme in ("abfs", "abfss"):  # what is before the @ is a container there
        return f"{scheme}://" + _PASSWORD.sub(r"\1@", rest)
    authority, slash, key = _USER.sub("", rest).partition("/")
    if scheme in ("http", "https"):
        key = key.partition("?")[0]
    elif scheme not in PYARROW_SCHEMES:
        key = _OPTIONS.sub("", key)
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{key}"


def has_bare_secret(uri: str) -> bool:
    """Whether a URI has a user whose secret holds a slash that was to be escaped: it would be taken for a bucket."""
    scheme = scheme_of(uri)
    found = (
        (_PASSWORD if scheme in ("abfs", "abfss") else _USER).match(bare(uri)[len(scheme) + 3 :]) if scheme else None
    )
    return found is not None and "/" in found[0]


def file_name(path: str) -> str:
    """The last part of a path or URI, by which a format is told."""
    return bare(path).rpartition("/")[2]


def _options_text(uri: str) -> str:
    """``?region=eu-west-1``, or nothing."""
    if scheme_of(uri) not in PYARROW_SCHEMES:
        return ""
    match = _OPTIONS.search(uri)
    return match[0] if match else ""
