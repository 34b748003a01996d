"""How people log in: by the link that the server prints, or by a form; and out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from urllib.parse import parse_qs, parse_qsl, urlencode

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import cookie_parser
from starlette.types import Scope

from gristmill.config import KIB
from gristmill.service.doors.limits import Guesses
from gristmill.service.doors.logins import LOGIN_SECONDS, Logins
from gristmill.service.doors.roles import Needs, Role
from gristmill.service.doors.site import is_from_our_page
from gristmill.service.problems import later

LoginPage = Callable[[str, str], str]
"""The HTML of the form, which posts ``token`` and ``next`` to ``/login``: of where to go then, and what went wrong."""

LOGIN = "/login"
LOGOUT = "/logout"
LOGIN_ASSETS = "/static/login/"
"""Static files below this are for those who have not logged in yet."""

WRONG = "This server does not know the token."
TOO_FAST = "There were too many wrong tokens. Try again in a moment."
_MAX_FORM_BYTES = 16 * KIB


def plain_login_page(after: str, wrong: str) -> str:
    """A form without any style."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Log in to Gristmill</title></head><body>'
        f'<main><h1>Gristmill</h1><p role="alert">{escape(wrong)}</p><form method="post" action="{LOGIN}">'
        f'<input type="hidden" name="next" value="{escape(after)}">'
        '<label>Token <input type="password" name="token" autocomplete="current-password" required autofocus></label> '
        "<button>Log in</button></form>"
        "<p>The server has printed a link that logs you in. Its token is in the file <code>token</code> of its data "
        "directory.</p></main></body></html>"
    )


def login_routes(logins: Logins, guesses: Guesses, page: LoginPage) -> APIRouter:
    """Routes to log in and out."""
    routes = APIRouter(include_in_schema=False)

    @routes.get(LOGIN, dependencies=[Depends(Needs(Role.ANYONE))])
    async def form(request: Request) -> HTMLResponse:
        """The form."""
        return HTMLResponse(page(safe_path(request.query_params.get("next", "/")), ""))

    @routes.post(LOGIN, dependencies=[Depends(Needs(Role.ANYONE))])
    async def login(request: Request) -> Response:
        """Log in with a token."""
        fields = await _form_of(request)
        if b"sec-fetch-site" in (headers := dict(request.scope["headers"])) and not is_from_our_page(headers):
            raise HTTPException(403, "Log in with the form of this server.")
        after = safe_path(fields.get("next", "/"))
        value = await run_in_threadpool(logins.begin, fields.get("token", "").strip())
        if value is None:
            too_fast = guesses.is_too_fast(address_of(request.scope))
            status = 429 if too_fast else 401
            return HTMLResponse(page(after, TOO_FAST if too_fast else WRONG), status, later(status))
        answer = RedirectResponse(after, 303)
        answer.headers.append("Set-Cookie", cookie(request.scope, value))
        return answer

    @routes.post(LOGOUT, dependencies=[Depends(Needs(Role.VIEWER))])
    async def logout(request: Request) -> Response:
        """Log out."""
        value = cookie_in(request.scope, dict(request.scope["headers"]))
        await run_in_threadpool(logins.end, value)
        answer = RedirectResponse(LOGIN, 303)
        answer.headers.append("Set-Cookie", cookie(request.scope, ""))
        return answer

    return routes


def link_token(scope: Scope) -> str:
    """The token in a link that logs in; empty if the call is not by such a link."""
    query: bytes = scope["query_string"]
    if scope["method"] != "GET" or scope["path"].startswith("/api/") or b"token=" not in query:
        return ""
    return parse_qs(query.decode("latin-1")).get("token", [""])[0]


def link_answer(scope: Scope, value: str) -> Response:
    """The answer to a right link: the cookie, and to the same page without the token."""
    answer = RedirectResponse(without_token(scope), 303)
    answer.headers.append("Set-Cookie", cookie(scope, value))
    return answer


def path_of(scope: Scope) -> str:
    """The path that is called, with its query."""
    query = scope["query_string"].decode("latin-1")
    return safe_path(scope["path"] + (f"?{query}" if query else ""))


def without_token(scope: Scope) -> str:
    """Likewise, but for the token."""
    query = [pair for pair in parse_qsl(scope["query_string"].decode("latin-1")) if pair[0] != "token"]
    return safe_path(scope["path"] + (f"?{urlencode(query)}" if query else ""))


def is_led_here(headers: Mapping[bytes, bytes]) -> bool:
    """Whether some page has led the browser here: not a person who has typed an address, and no other program."""
    return headers.get(b"sec-fetch-site", b"none") != b"none"


def may_have_cookie(scope: Scope, headers: Mapping[bytes, bytes]) -> bool:
    """Whether this is a visit from a link on another site's page: browsers keep the cookie back then."""
    return scope["method"] == "GET" and _is_foreign_visit(headers)


def bounce(path: str) -> Response:
    """A page that goes to another at once: as one of this site's, which the browser gives its cookie to."""
    return HTMLResponse(
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Gristmill</title>'
        f'<meta http-equiv="refresh" content="0;url={escape(path)}"></head>'
        f'<body><a href="{escape(path)}">Go on</a></body></html>'
    )


def _is_foreign_visit(headers: Mapping[bytes, bytes]) -> bool:
    return (
        headers.get(b"sec-fetch-site") in (b"cross-site", b"same-site")
        and headers.get(b"sec-fetch-mode") == b"navigate"
    )


def cookie(scope: Scope, value: str) -> str:
    """What sets the cookie; empty: what removes it."""
    secure = is_secure(scope, dict(scope["headers"]))
    age = LOGIN_SECONDS if value else 0
    text = f"{_cookie_name(scope, secure)}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict"
    return f"{text}; Secure" if secure else text


def cookie_in(scope: Scope, headers: Mapping[bytes, bytes]) -> str:
    """The cookie's value in a call; empty if there is none."""
    found = cookie_parser(headers.get(b"cookie", b"").decode("latin-1"))
    return found.get(_cookie_name(scope, is_secure(scope, headers)), "")


def is_secure(scope: Scope, headers: Mapping[bytes, bytes]) -> bool:
    """Whether the browser speaks TLS: with us, or with the proxy in front of us."""
    return scope["scheme"] == "https" or headers.get(b"x-forwarded-proto", b"") == b"https"


def _cookie_name(scope: Scope, secure: bool) -> str:
    """Cookies are not kept apart by port, and several servers may run on one machine."""
    port = (scope.get("server") or ("", 0))[1]
    return f"{'__Host-' if secure else ''}gristmill-{port}"


def safe_path(path: str) -> str:
    """A path of this site, whatever came."""
    is_ours = path.startswith("/") and path[1:2] not in ("/", "\\") and path.isprintable() and path.isascii()
    return path if is_ours else "/"


def address_of(scope: Scope) -> str:
    """Who calls."""
    client = scope.get("client")
    return str(client[0]) if client else ""


async def _form_of(request: Request) -> dict[str, str]:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_FORM_BYTES:
            raise HTTPException(413, "This is no form of this server.")
    try:
        found = parse_qs(body.decode("utf-8"), max_num_fields=10)
    except ValueError as error:
        raise HTTPException(400, f"This is no form: {error}.") from error
    return {name: values[0] for name, values in found.items()}
