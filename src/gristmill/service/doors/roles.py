"""Roles: what a token opens. Each route says the least role that it wants, and one that says nothing is refused."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

CALLER = "gristmill.caller"
"""In the scope of a call: the :class:`Caller` that the guard has found."""


class Role(Enum):
    """What a token is for.

    A viewer sees jobs, logs and results; a submitter runs jobs of its own, and ends these; an admin does all. The token
    of a worker joins workers, and opens nothing for people. ``ANYONE`` needs no token.
    """

    ANYONE = "anyone"
    VIEWER = "viewer"
    SUBMITTER = "submitter"
    ADMIN = "admin"
    WORKER = "worker"

    def opens(self, least: Role) -> bool:
        """Whether this role is enough where ``least`` is wanted."""
        return least is Role.ANYONE or self in _ENOUGH[least]


_ENOUGH: dict[Role, tuple[Role, ...]] = {
    Role.VIEWER: (Role.VIEWER, Role.SUBMITTER, Role.ADMIN),
    Role.SUBMITTER: (Role.SUBMITTER, Role.ADMIN),
    Role.ADMIN: (Role.ADMIN,),
    Role.WORKER: (Role.WORKER, Role.ADMIN),
}


@dataclass(frozen=True)
class Caller:
    """Who calls.

    Attributes:
        user: the name that their token was made for.
        role: what it opens.
        driver: the job of the driver that calls; empty: it is no driver. A driver is a submitter whose token opens
            nothing but what it has made itself.
    """

    user: str
    role: Role
    driver: str = ""

    def may_change(self, owner: str) -> bool:
        """Whether the caller may cancel, retry or otherwise change what belongs to a user."""
        return self.role is Role.ADMIN or (self.role is Role.SUBMITTER and owner == self.user)


NOBODY = Caller("", Role.ANYONE)


def caller_of(connection: HTTPConnection) -> Caller:
    """Who calls, as the guard has found."""
    found = connection.scope.get(CALLER, NOBODY)
    assert isinstance(found, Caller)
    return found


class Needs:
    """A dependency of a route: the least role that it wants, as in ``dependencies=[Depends(Needs(Role.VIEWER))]``."""

    def __init__(self, role: Role) -> None:
        self.role = role

    async def __call__(self, connection: HTTPConnection) -> None:
        """Let the caller in.

        Raises:
            HTTPException: 403, the caller's role is not enough.
        """
        caller = caller_of(connection)
        if not caller.role.opens(self.role):
            raise HTTPException(403, f"This wants the role {self.role.value}; {caller.user} is {caller.role.value}.")


@dataclass(frozen=True)
class Door:
    """One way in: a method of a route, and the least role that it wants."""

    method: str
    path: str
    role: Role


def doors_of(router: APIRouter | FastAPI) -> list[Door]:
    """All ways in that a router, or the application, has.

    Raises:
        RuntimeError: a route names no role: a mistake of ours, found when the server starts.
    """
    found: list[Door] = []
    for route in router.routes:
        if (within := getattr(route, "original_router", None)) is not None:
            found += doors_of(within)
            continue
        role = _role_of(route)
        if role is None:
            raise RuntimeError(f"the route {getattr(route, 'path', route)} names no role")
        found += [Door(method, route.path, role) for method in sorted(route.methods)]  # type: ignore[attr-defined]
    return found


def _role_of(route: Any) -> Role | None:
    dependant = getattr(route, "dependant", None)
    calls = [] if dependant is None else [one.call for one in dependant.dependencies]
    return next((call.role for call in calls if isinstance(call, Needs)), None)
