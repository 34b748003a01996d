"""The guard: nobody gets past it without a token that the server knows. What the token opens, the routes say."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from gristmill.errors import NotAuthorized
from gristmill.service.doors.roles import CALLER, NOBODY, Caller, Door, Role
from gristmill.service.doors.tokens import same
from gristmill.service.drivers import Drivers
from gristmill.service.problems import problem
from gristmill.service.routes.requests import API

OPEN_PATHS = ("/livez", "/readyz")
"""Whoever looks whether the server lives need not be known to it."""

_ADMIN = Caller("admin", Role.ADMIN)


class Guard:
    """Lets only those in who bring a token; and drivers with theirs, where these lead.

    Attributes:
        doors: all ways in behind it.
    """

    def __init__(self, app: ASGIApp, token: str, drivers: Drivers, doors: Sequence[Door] = ()) -> None:
        self.doors = tuple(doors)
        self._app = app
        self._token = token
        self._drivers = drivers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope[CALLER] = NOBODY
            if scope["path"] not in OPEN_PATHS:
                token = _token_in(scope)
                if same(token, self._token):
                    scope[CALLER] = _ADMIN
                elif driver := self._drivers.find(token):
                    if not self._drivers.may(driver, scope["method"], scope["path"].removeprefix(API)):
                        detail = "A driver may use its own sessions and jobs, and nothing else."
                        await problem(403, detail, NotAuthorized)(scope, receive, send)
                        return
                    scope[CALLER] = Caller("", Role.SUBMITTER, driver)
                else:
                    answer = problem(401, "The token is missing or is not this server's.", NotAuthorized)
                    answer.headers["WWW-Authenticate"] = "Bearer"
                    await answer(scope, receive, send)
                    return
        await self._app(scope, receive, send)


def _token_in(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, token = value.decode("latin-1").partition(" ")
            return token.strip() if scheme.lower() == "bearer" else ""
    return ""
