"""The options of ``serve`` about what a server does for those who run it: what it remembers, and whom it tells."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from gristmill.cli.params import duration_seconds, size_bytes
from gristmill.errors import UsageError

if TYPE_CHECKING:
    from gristmill.service.operations import OperationSettings

_FILE = click.Path(dir_okay=False, path_type=Path)
_OPTIONS = (
    click.option(
        "--keep-history", callback=duration_seconds, default="30d", show_default=True, metavar="DURATION",
        help="Forget jobs that have been over for this long.",
    ),
    click.option(
        "--keep-history-size", callback=size_bytes, default="1GiB", show_default=True, metavar="SIZE",
        help="Forget the oldest jobs that are over when the journal holds more than this.",
    ),
    click.option(
        "--keep-logs-size", callback=size_bytes, default="10GiB", show_default=True, metavar="SIZE",
        help="Delete the oldest logs, with what else is kept of jobs that are over, when they are more than this.",
    ),
    click.option(
        "--webhook", metavar="URL", show_default="none",
        help="Post a notice here when a job fails or outlives its deadline.",
    ),
    click.option(
        "--webhook-secret-file", type=_FILE, metavar="FILE", show_default="notices are not signed",
        help="Holds the secret that notices are signed with.",
    ),
    click.option(
        "--smtp-url", metavar="URL", show_default="none",
        help="Mail the same by this server: smtp://USER@HOST:587, or smtps://USER@HOST.",
    ),
    click.option(
        "--smtp-password-file", type=_FILE, metavar="FILE", show_default="none", help="Holds that user's password."
    ),
    click.option("--mail-from", metavar="ADDRESS", help="Whom these mails are from."),
    click.option("--mail-to", multiple=True, metavar="ADDRESS", help="Whom they go to; may be given several times."),
    click.option(
        "--openlineage", metavar="URL", show_default="none", help="Post what jobs read and write here, as run events."
    ),
    click.option(
        "--openlineage-token-file", type=_FILE, metavar="FILE", show_default="none",
        help="Holds the token, or API key, that is shown there.",
    ),
    click.option(
        "--openlineage-namespace", default="gristmill", show_default=True, metavar="NAME",
        help="The namespace of the jobs there.",
    ),
    click.option(
        "--public-url", metavar="URL", show_default="the first --allow-host, else the address",
        help="By which people reach the server, such as that of a proxy: for links in notices.",
    ),
)  # fmt: skip


def operation_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """These options. Their values come as named arguments, for :func:`operation_settings`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def operation_settings(named: dict[str, Any]) -> OperationSettings:
    """The values of these options in their parsed form.

    Raises:
        UsageError: some of them make no sense.
    """
    from gristmill.runtime.journal.forgetting import KeepHistory
    from gristmill.service.operations import OperationSettings

    webhook = mail = None
    if named["webhook"]:
        from gristmill.service.telling.notices import Webhook

        webhook = Webhook.parse(named["webhook"], _secret(named["webhook_secret_file"], "--webhook-secret-file"))
    elif named["webhook_secret_file"]:
        raise UsageError("--webhook-secret-file signs what goes to a --webhook: name one.")
    if named["smtp_url"]:
        from gristmill.service.telling.notices import Mail

        password = _secret(named["smtp_password_file"], "--smtp-password-file")
        mail = Mail.parse(named["smtp_url"], password, named["mail_from"] or "", named["mail_to"])
    elif named["smtp_password_file"] or named["mail_from"] or named["mail_to"]:
        raise UsageError("For e-mail there must be --smtp-url, --mail-from and --mail-to.")
    if named["openlineage_token_file"] and not named["openlineage"]:
        raise UsageError("--openlineage-token-file is shown where --openlineage leads to: name that.")
    return OperationSettings(
        keep=KeepHistory(named["keep_history"], named["keep_history_size"]),
        logs_bytes=named["keep_logs_size"],
        webhook=webhook,
        mail=mail,
        openlineage=named["openlineage"] or "",
        openlineage_token=_secret(named["openlineage_token_file"], "--openlineage-token-file"),
        openlineage_namespace=named["openlineage_namespace"],
        public_url=_public_url(named["public_url"] or ""),
    )


def _public_url(url: str) -> str:
    """An address for links.

    Raises:
        UsageError: it is none.
    """
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if url and (not good or "@" in parts.netloc or parts.query or parts.fragment):  # not shown: there may be a secret
        raise UsageError("--public-url: name an address such as https://mill.example.org, without user and query.")
    return url


def _secret(path: Path | None, option: str) -> str:
    if path is None:
        return ""
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UsageError(f"{option} {path} cannot be read: {reason}.") from error
    if not secret:
        raise UsageError(f"{option} {path} is empty.")
    return secret
