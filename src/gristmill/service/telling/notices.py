"""Notices: a webhook and an e-mail when a job fails, or outlives its deadline.

Whom they go to, only whoever starts the server says.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import smtplib
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.utils import formatdate
from typing import Any
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from gristmill.config import VERSION, format_duration
from gristmill.errors import UsageError, plain
from gristmill.runtime.journal.facts import Fact, JobEnded, JobLate
from gristmill.runtime.journal.journal import Journal
from gristmill.runtime.journal.outbox import Message
from gristmill.runtime.journal.summaries import JobState, JobSummary
from gristmill.service.drivers import is_loader
from gristmill.service.telling.telling import NeverTold, NotToldYet

FAILED, LATE = "failed", "late"
_TIMEOUT_SECONDS = 10.0
_ANSWER_BYTES = 64 * 1024
_TRY_AGAIN = (408, 409, 425, 429)
_SECRET_PREFIX = "whsec_"


def notable(fact: Fact) -> Iterable[str]:
    """What people want to be told."""
    if isinstance(fact, JobEnded) and fact.outcome.view.state is JobState.FAILED:
        return (FAILED,)
    return (LATE,) if isinstance(fact, JobLate) else ()


@dataclass(frozen=True)
class Notice:
    """What is told of a job.

    Attributes:
        id: the same, however often it is told.
        kind: ``failed`` or ``late``.
        summary: the job.
        at: seconds since the epoch.
        link: its page.
    """

    id: str
    kind: str
    summary: JobSummary
    at: float
    link: str

    @property
    def subject(self) -> str:
        """In a line."""
        what = "failed" if self.kind == FAILED else "has outlived its deadline"
        return f"{self._name} {what} ({self.summary.job})"

    @property
    def _name(self) -> str:
        """What the job is called, in a line."""
        return " ".join(self.summary.name.split())

    @property
    def text(self) -> str:
        """For people."""
        one = self.summary
        lines = [f"Job {one.job} ({self._name}) failed."]
        if self.kind == LATE:
            deadline = format_duration(one.deadline_seconds or 0.0)
            what = "submitted" if one.since == one.submitted else "tried again"
            lines = [f"Job {one.job} ({self._name}) was to be over {deadline} after it was {what}, and is not."]
        if one.user:
            lines.append(f"Submitted by {one.user} at {_iso(one.submitted)}.")
        if one.output:
            lines.append(f"Output: {one.output}")
        if self.kind == FAILED and one.error:
            lines += ["", one.error]
        return "\n".join([*lines, "", self.link, ""])

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        one = self.summary
        job = {
            "id": one.job,
            "name": one.name,
            "user": one.user,
            "state": one.state.value,
            "submitted": _iso(one.submitted),
            "ended": None if one.ended is None else _iso(one.ended),
            "deadline_seconds": one.deadline_seconds,
            "output": one.output,
            "error": one.error or None if self.kind == FAILED else None,
        }
        return {"id": self.id, "type": f"job.{self.kind}", "timestamp": _iso(self.at), "job": job, "link": self.link}


def _iso(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


class Notices:
    """Makes notices of messages.

    Args:
        journal: knows the jobs.
        url: of the server.
    """

    def __init__(self, journal: Journal, url: str) -> None:
        self._journal = journal
        self._url = url.rstrip("/")

    def of(self, message: Message) -> Notice:
        """The notice.

        Raises:
            NeverTold: the job is not remembered, or is of no interest: its client waits for it.
        """
        summary = self._journal.summary(message.job)
        if summary is None:
            raise NeverTold("the job is not remembered any more.")
        if summary.session or is_loader(summary.name, summary.driver):
            raise NeverTold("whoever began it is told by it.")
        id = f"{message.job}-{message.kind}-{message.number}"
        return Notice(id, message.kind, summary, message.at, f"{self._url}/jobs/{message.job}")


@dataclass(frozen=True)
class Webhook:
    """Where notices are posted.

    Attributes:
        url: there. Whoever knows it may post, often: it comes into no log.
        secret: notices are signed with it, as https://www.standardwebhooks.com says; empty: they are not.
    """

    url: str = field(repr=False)
    secret: bytes = field(default=b"", repr=False)

    @classmethod
    def parse(cls, url: str, secret: str = "") -> Webhook:
        """From options.

        Raises:
            UsageError: it is no URL, or no secret.
        """
        if not is_web_url(url):
            raise UsageError("--webhook: name a URL such as https://HOST/PATH.")  # not shown: it may be a secret
        if not secret.startswith(_SECRET_PREFIX):
            return cls(url, secret.encode())
        try:
            return cls(url, base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True))
        except ValueError as error:
            raise UsageError(f"--webhook-secret-file: what follows {_SECRET_PREFIX} is not base64.") from error


class WebhookChannel:
    """Posts notices."""

    name = "webhook"

    def __init__(self, webhook: Webhook, notices: Notices, clock: Callable[[], float] = time.time) -> None:
        self._webhook, self._notices, self._clock = webhook, notices, clock

    def kinds(self, fact: Fact) -> Iterable[str]:
        """See ``Channel``."""
        return notable(fact)

    def tell(self, message: Message) -> None:
        """See ``Channel``."""
        notice = self._notices.of(message)
        body = json.dumps(notice.to_json()).encode()
        at = str(int(self._clock()))
        headers = {"webhook-id": notice.id, "webhook-timestamp": at}
        if self._webhook.secret:
            signed = hmac.new(self._webhook.secret, f"{notice.id}.{at}.".encode() + body, hashlib.sha256).digest()
            headers["webhook-signature"] = f"v1,{base64.b64encode(signed).decode()}"
        post_json(self._webhook.url, body, headers)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args: Any, **_named: Any) -> None:
        """What was signed for one goes to no other."""


_opener = urllib.request.build_opener(_NoRedirects)


def is_web_url(url: str) -> bool:
    """Whether something can be posted there."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # it has brackets that do not match, or no number for a port
        return False


def post_json(url: str, body: bytes, headers: dict[str, str]) -> None:
    """Post a JSON text. User and password of the URL are told as ``Authorization``.

    Raises:
        NotToldYet: nobody answers, or not now.
        NeverTold: it is refused.
    """
    known = {"Content-Type": "application/json", "User-Agent": f"gristmill/{VERSION}"}
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    if at:
        known["Authorization"] = f"Basic {base64.b64encode(unquote_to_bytes(user)).decode()}"
    request = urllib.request.Request(parts._replace(netloc=host).geturl(), body, {**known, **headers}, method="POST")
    try:
        with _opener.open(request, timeout=_TIMEOUT_SECONDS) as answer:
            answer.read(_ANSWER_BYTES)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code >= 500 or error.code in _TRY_AGAIN:
            raise NotToldYet(f"{shown_url(url)} answers {error.code}.") from None
        raise NeverTold(f"{shown_url(url)} refuses it: {error.code}.") from None
    except OSError as error:
        raise NotToldYet(f"{shown_url(url)} does not answer: {error}.") from None
    except http.client.HTTPException as error:  # its text may be what was answered, or the URL
        raise NotToldYet(f"{shown_url(url)} does not answer as a web server does: {type(error).__name__}.") from None


def shown_url(url: str) -> str:
    """What may be shown of a URL that lets one in: where it leads to."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}"


@dataclass(frozen=True)
class Mail:
    """By whom and to whom notices are mailed.

    Attributes:
        host: the SMTP server's.
        port: likewise.
        tls: from the first byte (``smtps``); else as soon as the server offers it, and a password waits for that.
        user: who logs in; empty: nobody.
        password: likewise.
        sender: whom it is from.
        to: whom it is to.
    """

    host: str
    port: int
    tls: bool
    user: str
    password: str = field(repr=False)
    sender: str
    to: tuple[str, ...]

    @classmethod
    def parse(cls, url: str, password: str, sender: str, to: tuple[str, ...]) -> Mail:
        """From options.

        Raises:
            UsageError: something is missing.
        """
        try:
            parts = urlsplit(url)
            port, wrong = parts.port, parts.scheme not in ("smtp", "smtps") or not parts.hostname
        except ValueError:
            wrong = True
        if wrong:  # not shown: there may be a password in it
            raise UsageError("--smtp-url: name a server such as smtp://USER@HOST:587 or smtps://USER@HOST.")
        if parts.password is not None:
            raise UsageError("--smtp-url: the password goes into a file, named by --smtp-password-file.")
        if not to or not sender:
            raise UsageError("For e-mail there must be --smtp-url, --mail-from and --mail-to.")
        tls = parts.scheme == "smtps"
        user = unquote(parts.username or "")
        if user and not password:
            raise UsageError(f"--smtp-url names the user {user}: put the password into a file, --smtp-password-file.")
        return cls(parts.hostname or "", port or (465 if tls else 587), tls, user, password, sender, to)


class MailChannel:
    """Mails notices."""

    name = "mail"

    def __init__(self, mail: Mail, notices: Notices) -> None:
        self._mail, self._notices = mail, notices

    def kinds(self, fact: Fact) -> Iterable[str]:
        """See ``Channel``."""
        return notable(fact)

    def tell(self, message: Message) -> None:
        """See ``Channel``."""
        text = self._text(self._notices.of(message))
        mail = self._mail
        try:
            with self._connected() as smtp:
                if mail.user:
                    smtp.login(mail.user, mail.password)
                smtp.send_message(text, mail.sender, mail.to)
        except (OSError, smtplib.SMTPException) as error:  # what is refused today may be set right by the operator
            said = str(error) if not mail.password else str(error).replace(mail.password, "***")
            raise NotToldYet(f"{mail.host}:{mail.port} does not take it: {said}.") from None

    def _connected(self) -> smtplib.SMTP:
        mail, trusted = self._mail, ssl.create_default_context()
        if mail.tls:
            return smtplib.SMTP_SSL(mail.host, mail.port, timeout=_TIMEOUT_SECONDS, context=trusted)
        smtp = smtplib.SMTP(mail.host, mail.port, timeout=_TIMEOUT_SECONDS)
        smtp.ehlo()
        if smtp.has_extn("starttls"):
            smtp.starttls(context=trusted)
            smtp.ehlo()
        elif mail.user:
            smtp.close()
            raise smtplib.SMTPNotSupportedError("it offers no STARTTLS, and a password is not sent without")
        return smtp

    def _text(self, notice: Notice) -> EmailMessage:
        text = EmailMessage()
        text["Subject"] = plain(f"[Gristmill] {notice.subject}")
        text["From"] = self._mail.sender
        text["To"] = ", ".join(self._mail.to)
        text["Date"] = formatdate(notice.at)
        text["Message-ID"] = f"<{notice.id}@gristmill>"
        text["Auto-Submitted"] = "auto-generated"
        text.set_content(plain(notice.text))
        return text
