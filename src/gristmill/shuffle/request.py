"""What a reader asks a worker's block server for, and the form of the answer.

A request is one Flight ticket: JSON with the job, the attempt's ticket and a list of pieces (path, offset, length), to
be sent in that order. The answer is a stream of record batches. A row is some bytes of one piece; those of a piece come
in order, and ``error`` ends a piece that cannot be sent, not the stream.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, NamedTuple

BATCH_BYTES = 1024 * 1024
MAX_REQUEST_PIECES = 4096
GONE = "gone"
"""The error of a piece whose block is not there."""


class Piece(NamedTuple):
    """Some bytes of a block file."""

    path: str
    offset: int
    length: int


@dataclass(frozen=True)
class Request:
    """One question to one worker.

    Attributes:
        job: whose blocks these are.
        ticket: the reader's, see :mod:`gristmill.shuffle.tickets`.
        pieces: what is wanted, at most MAX_REQUEST_PIECES.
        batch_bytes: how much comes at a time; at most BATCH_BYTES.
        keeper: the address of whoever keeps the blocks, if somebody else is asked to pass this on; else empty.
        seconds: how long the reader waits for the answer; after that nobody needs it.
    """

    job: str
    ticket: str
    pieces: tuple[Piece, ...]
    batch_bytes: int = BATCH_BYTES
    keeper: str = ""
    seconds: float = 0.0

    def to_bytes(self) -> bytes:
        """As it travels."""
        return json.dumps(vars(self)).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Request:
        """The inverse of :meth:`to_bytes`.

        Raises:
            ValueError: it is not a request, or asks for more than may be asked for at once.
        """
        try:
            fields = json.loads(data)
            pieces = tuple(Piece(str(path), int(offset), int(length)) for path, offset, length in fields["pieces"])
            keeper = str(fields.get("keeper", ""))
            seconds = float(fields.get("seconds", 0.0))
            job, ticket = str(fields["job"]), str(fields["ticket"])
            request = cls(job, ticket, pieces, int(fields["batch_bytes"]), keeper, seconds)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a request for blocks: {error}") from error
        if len(pieces) > MAX_REQUEST_PIECES or any(piece.offset < 0 or piece.length < 0 for piece in pieces):
            raise ValueError("a request for blocks with impossible pieces")
        if not seconds >= 0:
            raise ValueError("a request for blocks that nobody waits for")
        return request


def answer_schema() -> Any:
    """The columns of an answer: the piece's place in the request, some of its bytes, why no more come (else null)."""
    import pyarrow as pa

    return pa.schema([("piece", pa.int32()), ("data", pa.large_binary()), ("error", pa.string())])
