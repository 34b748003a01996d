"""A server signs the jobs that it accepts, with a key of its own, before it writes them into its journal.

What comes back from there is believed only if the signature fits: a job whose code, splits or description somebody has
altered in the file is refused before any of it is used. The key lies beside the journal, in a file of its own.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from gristmill.errors import PayloadAltered
from gristmill.runtime.journal.facts import JobAccepted, JobRequested

SIGNING_KEY = "signing-key"
"""The name of the key's file, in a server's data directory: hexadecimal digits, for its owner alone."""

CODE, SPLITS = "code", "splits"
"""The blobs of an accepted job."""

REQUESTED = "request/"
"""How the names of blobs begin that came with a request."""


def read_key(data_dir: Path) -> bytes:
    """The key of the server of a data directory; empty if none ever ran there.

    Raises:
        OSError: it cannot be read.
        ValueError: it holds something else.
    """
    try:
        return bytes.fromhex((data_dir / SIGNING_KEY).read_text(encoding="ascii").strip())
    except FileNotFoundError:
        return b""


def signature_of(key: bytes, fact: JobAccepted | JobRequested, blobs: Mapping[str, bytes]) -> str:
    """The signature of a job: over its id, all that its fact says, and its blobs.

    Args:
        key: the server's; empty: nothing is signed.
        fact: what was accepted.
        blobs: what lies beside it; those of another fact are left out.
    """
    if not key:
        return ""
    own = _is_of_request if isinstance(fact, JobRequested) else _is_of_job
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in blobs.items() if own(name)}
    text = json.dumps([fact.kind, fact.job, _said(fact), digests], sort_keys=True, separators=(",", ":"))
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def check_signature(key: bytes, fact: JobAccepted | JobRequested, blobs: Mapping[str, bytes]) -> None:
    """See that a job is as it was accepted.

    Raises:
        PayloadAltered: it is not.
    """
    said = fact.signature.encode("utf-8", "replace")
    if key and not hmac.compare_digest(signature_of(key, fact, blobs).encode(), said):
        raise PayloadAltered(
            f"Job {fact.job} is not run: what the journal holds of it is not what this server has accepted. Somebody "
            "has altered it, or the server's signing key is another one now. Submit the job again."
        )


def _said(fact: JobAccepted | JobRequested) -> dict[str, Any]:
    """What a fact says, but for what is as it is by default: later versions may have more to say."""
    default = {field.name: field.default for field in fields(fact) if field.default is not MISSING}
    return {
        name: value
        for name, value in fact.to_json().items()
        if name != "signature" and not (name in default and default[name] == value)
    }


def _is_of_job(name: str) -> bool:
    return name in (CODE, SPLITS)


def _is_of_request(name: str) -> bool:
    return name.startswith(REQUESTED)
