"""Tickets: what a worker's block server wants to see of an attempt that reads there.

A job (and a session) has a secret, which the coordinator draws and tells the workers alone. An attempt gets a ticket
made of that: with its own name, the time until when it is good, and a seal that only those can make who have the
secret. So it opens the blocks of its job and nothing else, tells who reads, and the secret itself neither crosses the
network between workers nor comes to the processes in which user code runs. Once the job is over, none of its tickets
opens anything.
"""

from __future__ import annotations

import hmac

TICKET_SECONDS = 3 * 86400.0
"""An attempt that waits for its turn, and then reads for long, is not to find its ticket out of date."""


def ticket_of(secret: str, owner: str, reader: str, now: float) -> str:
    """A ticket.

    Args:
        secret: of the job, or the session.
        owner: whose blocks it opens.
        reader: who will read, by a name without dots.
        now: seconds since 1970.
    """
    until = int(now + TICKET_SECONDS)
    return f"{reader}.{until}.{_seal(secret.encode(), owner, reader, until)}"


def opens(ticket: str, secret: bytes, owner: str, now: float) -> bool:
    """Whether a ticket opens the blocks of a job with this secret, in a time that does not tell how nearly it does."""
    reader, _, rest = ticket.partition(".")
    text, _, seal = rest.partition(".")
    until = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0
    right = hmac.compare_digest(seal.encode("utf-8", "replace"), _seal(secret, owner, reader, until).encode())
    return right and bool(secret) and now < until


def _seal(secret: bytes, owner: str, reader: str, until: int) -> str:
    # An empty key seals, too; what it seals opens nothing.
    return hmac.new(secret, f"{owner}\n{reader}\n{until}".encode("utf-8", "replace"), "sha256").hexdigest()
