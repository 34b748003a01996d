"""HEAD, wherever there is GET: the same answer, without its body. Health checkers ask so."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gristmill.service.doors.roles import Door


def heads_of(doors: Sequence[Door]) -> list[Door]:
    """The ways in that there are besides: for who may GET."""
    own = {door.path for door in doors if door.method == "HEAD"}
    return [Door("HEAD", door.path, door.role) for door in doors if door.method == "GET" and door.path not in own]


class Heads:
    """Answers HEAD as GET where an application does not know it. What listens for long is not listened to."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        own: list[Message] = []

        async def hold(message: Message) -> None:
            own.append(message)

        await self._app(scope, receive, hold)  # no body comes of it
        if own and own[0]["type"] == "http.response.start" and own[0]["status"] != 405:
            for message in own:
                await send(message)
            return
        await self._as_get({**scope, "method": "GET"}, receive, send)

    async def _as_get(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = asyncio.Event()

        async def head(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
            elif not begun.is_set():
                await send({"type": "http.response.body"})
                begun.set()

        answer = asyncio.ensure_future(self._app(scope, receive, head))
        waiting = asyncio.ensure_future(begun.wait())
        try:
            await asyncio.wait((answer, waiting), return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                answer.result()  # raises what it has raised
        finally:
            for task in (answer, waiting):
                task.cancel()
            with suppress(asyncio.CancelledError):
                await answer
