"""Moves blocks from member to member: through Ray's object store, all that one reader wants of a keeper in one object.

Ray carries it from node to node, keeps one copy for all readers of a node, and puts what does not fit into its memory
on the disk (or where its own settings say).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import ray

from gristmill.fleets.ray.settings import SCHEME
from gristmill.shuffle.fetch import CALLS, rows_of
from gristmill.shuffle.request import Request
from gristmill.shuffle.transfer import Answer, Call, Vain

_MOST_HANDLES = 1024  # of actors, that are not looked up again


def ask_member(address: str, request: Request, seconds: float) -> list[Any]:
    """The batches that answer a request.

    Args:
        address: of the member that keeps the blocks.
        request: what is wanted.
        seconds: for the answer to come.

    Raises:
        OSError: the member is gone, or does not answer in time.
    """
    if not ray.is_initialized():  # else Ray would start another
        raise OSError("this process is not connected to Ray any more")
    try:
        asked = _actor_at(address).fetch.remote(request.to_bytes())
        batches: list[Any] = ray.get(asked, timeout=seconds)
    except ray.exceptions.GetTimeoutError as error:
        ray.cancel(asked)  # one that has not begun is not begun any more
        raise OSError(f"it has not answered within {seconds:g} s") from error
    except (ray.exceptions.RayError, ValueError) as error:
        _actor_at.cache_clear()
        raise OSError(f"{type(error).__name__}: {str(error).partition(chr(10))[0]}") from error
    return batches


@lru_cache(_MOST_HANDLES)
def _actor_at(address: str) -> Any:
    """The actor of a member."""
    namespace, _, name = address.removeprefix(SCHEME).partition("/")
    return ray.get_actor(name, namespace)


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
