"""Moves blocks from member to member: through Ray's object store, all that one reader wants of a keeper in one object.

Ray carries it from node to node, keeps one copy for all readers of a node, and puts what does not fit into its memory
on the disk (or where its own settings say).
"""

from __future__ import annotations

from typing import Any

import ray

from gristmill.fleets.ray.settings import SCHEME
from gristmill.shuffle.fetch import CALLS, rows_of
from gristmill.shuffle.request import Request
from gristmill.shuffle.transfer import Answer, Call, Vain


def ask_member(address: str, request: Request, seconds: float) -> list[Any]:
    """The batches that answer a request.

    Args:
        address: of the member that keeps the blocks.
        request: what is wanted.
        seconds: for the answer to come.

    Raises:
        OSError: the member is gone, or does not answer in time.
    """
    namespace, _, name = address.removeprefix(SCHEME).partition("/")
    try:
        actor = ray.get_actor(name, namespace)
        batches: list[Any] = ray.get(actor.fetch.remote(request.to_bytes()), timeout=seconds)
    except (ray.exceptions.RayError, ValueError) as error:
        raise OSError(f"{type(error).__name__}: {str(error).partition(chr(10))[0]}") from error
    return batches


def own_node() -> str:
    """The node of which this process sees the files; empty: none."""
    if not ray.is_initialized() or ray.util.client.ray.is_connected():
        return ""
    node: str = ray.get_runtime_context().get_node_id()
    return node


def read_from_members() -> None:
    """Let this process read blocks of members itself."""
    CALLS[SCHEME] = _call_of


def _call_of(address: str) -> Call:
    def call(request: Request, seconds: float) -> Answer:
        try:
            batches = ask_member(address, request, seconds)
        except OSError as error:
            raise Vain(str(error)) from error
        for batch in batches:
            yield from rows_of(batch)

    return call
