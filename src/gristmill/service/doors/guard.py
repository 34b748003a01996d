"""The guard: what every call must pass before anything of it is looked at.

In this order: it must be meant for this server (Host), and not be made by a page of somebody else's (Origin); whoever
makes it must be known, by a token or a login; and what a browser changes by its cookie must come from our own page.
What the caller's role opens, the routes say: see :mod:`gristmill.service.doors.roles`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gristmill.errors import NotAuthorized
from gristmill.service.doors.limits import Exchange, Guesses
from gristmill.service.doors.login import (
    LOGIN_ASSETS,
    TOO_FAST,
    WRONG,
    LoginPage,
    address_of,
    bounce,
    cookie_in,
    is_led_here,
    is_secure,
    link_answer,
    link_token,
    may_have_cookie,
    path_of,
    plain_login_page,
    safe_path,
    without_token,
)
from gristmill.service.doors.logins import LOGINS, Logins
from gristmill.service.doors.roles import CALLER, NOBODY, Caller, Door, Role
from gristmill.service.doors.site import Site, in_origin_form, is_from_our_page, is_same_site, site_of
from gristmill.service.doors.tokens import TOKENS, Tokens, caller_with
from gristmill.service.drivers import Drivers
from gristmill.service.problems import later, problem
from gristmill.service.routes.requests import API

_SAFE = ("GET", "HEAD", "OPTIONS")
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_DATA_POLICY = "default-src 'none'; frame-ancestors 'none'; sandbox"
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@dataclass
class Keys:
    """What the guard goes by.

    Attributes:
        tokens: what the server knows.
        logins: browsers that have logged in.
        site: the server's names.
        guesses: wrong tokens.
        login_page: for people who are not known.
        doors: all ways in, once there is a guard.
    """

    tokens: Tokens
    logins: Logins
    site: Site
    guesses: Guesses = field(default_factory=Guesses)
    login_page: LoginPage = plain_login_page
    doors: tuple[Door, ...] = ()


def keys_of(token: str, data_dir: Path, host: str, allowed: Sequence[str] = ()) -> Keys:
    """The keys of a server.

    Args:
        token: its own.
        data_dir: where those that were added are, and logins.
        host: where it listens.
        allowed: further names of it.
    """
    tokens = Tokens(token, data_dir / TOKENS)
    return Keys(tokens, Logins(tokens, data_dir / LOGINS), site_of(host, allowed))


@dataclass(frozen=True)
class _Known:
    caller: Caller
    still: Callable[[], bool]  # whether it is known yet
    by_cookie: bool = False


class Guard:
    """Lets only those in who are known.

    Attributes:
        doors: all ways in behind it. Those for anyone are open.
    """

    def __init__(self, app: ASGIApp, keys: Keys, drivers: Drivers, doors: Sequence[Door] = ()) -> None:
        self.doors = keys.doors = tuple(doors)
        self._open = {door.path for door in doors if door.role is Role.ANYONE}
        self._app = app
        self._keys = keys
        self._drivers = drivers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # nothing else is spoken here
        headers = dict(scope["headers"])
        scope, target = in_origin_form(scope)
        send = _with_headers(scope, send)
        if answer := self._misled(scope, headers, target):
            await answer(scope, receive, send)
            return
        known = self._who(scope, headers)
        answer = None
        if token := link_token(scope):
            answer = await self._let_in(scope, headers, token, known)
        elif known is None and not self._is_open(scope):
            answer = self._unknown(scope, headers)
        elif known is not None:
            answer = self._not_for(scope, headers, known)
        if answer is not None:
            await answer(scope, receive, send)
            return
        scope[CALLER] = NOBODY if known is None else known.caller
        exchange = Exchange(receive, send, known.still if known is not None else _always)
        await self._app(scope, exchange.receive, exchange.send)

    def _misled(self, scope: Scope, headers: Mapping[bytes, bytes], target: str | None) -> Response | None:
        """The answer to a call that is not meant for this server, or that a page of others makes."""
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        host = hosts[0].decode("latin-1") if len(hosts) == 1 else ""
        foreign = next((one for one in (host, target) if one is not None and not self._keys.site.is_here(one)), None)
        if foreign is not None:
            detail = f"This server is not {foreign or 'nameless'}: start it with --allow-host NAME if it is."
            return problem(400, detail)
        origin = headers.get(b"origin")
        if origin == b"null" and headers.get(b"sec-fetch-site") == b"same-origin":
            return None  # a form of ours: browsers that are to send no referrer name no origin either
        scheme = "https" if is_secure(scope, headers) else "http"
        if origin is not None and not is_same_site(origin.decode("latin-1"), host, scheme):
            return problem(403, "Pages of other sites may not call this server.")
        return None

    def _who(self, scope: Scope, headers: Mapping[bytes, bytes]) -> _Known | None:
        tokens, logins = self._keys.tokens, self._keys.logins
        if b"authorization" in headers:
            token = bearer(headers[b"authorization"].decode("latin-1"))
            if (entry := tokens.find(token)) is not None:
                digest = entry.digest
                return _Known(caller_with(entry), lambda: tokens.holder(digest) is not None)
            if driver := self._drivers.find(token):
                caller = Caller(self._drivers.user(driver), Role.SUBMITTER, driver)
                return _Known(caller, lambda: bool(self._drivers.find(token)))
            return None
        value = cookie_in(scope, headers)
        if (entry := logins.find(value)) is not None:
            return _Known(caller_with(entry), lambda: logins.find(value) is not None, by_cookie=True)
        return None

    def _is_open(self, scope: Scope) -> bool:
        path = scope["path"]
        return path in self._open or (path.startswith(LOGIN_ASSETS) and ".." not in path)

    async def _let_in(self, scope: Scope, headers: Mapping[bytes, bytes], token: str, known: _Known | None) -> Response:
        """The answer to a link with a token.

        A link on a page may be somebody else's who wants the user to work as them: it changes no login. Browsers keep
        the cookie back from calls that other sites' pages lead to; so such a call comes once more, from a page of ours.
        """
        if is_led_here(headers):
            if known is not None and known.by_cookie:
                return RedirectResponse(without_token(scope), 303)
            if may_have_cookie(scope, headers):
                return bounce(path_of(scope))
        value = await run_in_threadpool(self._keys.logins.begin, token)
        return self._unknown(scope, headers, token) if value is None else link_answer(scope, value)

    def _unknown(self, scope: Scope, headers: Mapping[bytes, bytes], wrong: str = "") -> Response:
        """The answer to somebody who is not known: a form for people, a problem for programs."""
        given = wrong or headers.get(b"authorization", b"") not in (b"", b"Bearer")
        too_fast = bool(given) and self._keys.guesses.is_too_fast(address_of(scope))
        if b"text/html" in headers.get(b"accept", b"") and scope["method"] in ("GET", "HEAD"):
            path = safe_path(scope["path"]) if wrong else path_of(scope)
            if not wrong and may_have_cookie(scope, headers):
                return bounce(path)
            why = TOO_FAST if too_fast else WRONG if given else ""
            status = 429 if too_fast else 401
            return HTMLResponse(self._keys.login_page(path, why), status, later(status))
        if too_fast:
            return problem(429, TOO_FAST)
        answer = problem(401, "The token is missing or is not this server's.", NotAuthorized)
        answer.headers["WWW-Authenticate"] = "Bearer"
        return answer

    def _not_for(self, scope: Scope, headers: Mapping[bytes, bytes], known: _Known) -> Response | None:
        """The answer to somebody who is known, and may not do this here."""
        driver = known.caller.driver
        if driver and not self._drivers.may(driver, scope["method"], scope["path"].removeprefix(API)):
            return problem(403, "A driver may use its own sessions and jobs, and nothing else.", NotAuthorized)
        if known.by_cookie and scope["method"] not in _SAFE and not is_from_our_page(headers):
            return problem(403, "Only pages of this server may do this with a login. Programs bring a token.")
        return None


def bearer(authorization: str) -> str:
    """The token in ``Bearer TOKEN``; empty if there is none."""
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _always() -> bool:
    return True


def _with_headers(scope: Scope, send: Send) -> Send:
    """Answers with what browsers should keep to."""
    path = scope["path"]

    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            is_page = headers.get("content-type", "").startswith("text/html")
            headers.setdefault("Content-Security-Policy", _PAGE_POLICY if is_page else _DATA_POLICY)
            if not path.startswith("/static/"):
                headers.setdefault("Cache-Control", "no-store")
        await send(message)

    return with_headers
