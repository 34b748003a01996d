"""What a server does for those who run it: metrics, notices, and forgetting old jobs."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from gristmill.errors import JournalFailed
from gristmill.runtime.files.jobfolder import MAX_TOTAL_BYTES, prune
from gristmill.runtime.journal.forgetting import KeepHistory, forget_old_jobs
from gristmill.runtime.journal.journal import Journal
from gristmill.service.telling.telling import Channel, Tellers

if TYPE_CHECKING:
    from gristmill.service.looking.history import Histories
    from gristmill.service.telling.notices import Mail, Webhook

_log = logging.getLogger(__name__)
_EVERY_SECONDS = 600.0
_FIRST_SECONDS = 5.0  # after the start, which has enough to do
_END_SECONDS = 10.0
_YIELD_SECONDS = 0.2


@dataclass(frozen=True, kw_only=True)
class OperationSettings:
    """What a server is told about that.

    Attributes:
        keep: what of ended jobs is remembered.
        logs_bytes: what the folders of ended jobs may hold, with their logs.
        webhook: where notices are posted; None: nowhere.
        mail: whom they are mailed to; None: nobody.
        openlineage: where run events are posted; empty: nowhere.
        openlineage_token: what is shown there; empty: nothing.
        openlineage_namespace: of the jobs, there.
        public_url: by which people reach the server; empty: by its own names.
    """

    keep: KeepHistory = field(default_factory=KeepHistory)
    logs_bytes: int = MAX_TOTAL_BYTES
    webhook: Webhook | None = None
    mail: Mail | None = None
    openlineage: str = field(default="", repr=False)
    openlineage_token: str = field(default="", repr=False)
    openlineage_namespace: str = "gristmill"
    public_url: str = ""


def tellers_of(settings: OperationSettings, journal: Journal, url: str) -> Tellers:
    """Who tells others of this journal's jobs.

    Args:
        settings: whom.
        journal: whose facts.
        url: of the server, for people.

    Raises:
        UsageError: somebody cannot be told so.
    """
    channels: list[Channel] = []  # their libraries are loaded where they are used
    if settings.webhook is not None or settings.mail is not None:
        from gristmill.service.telling.notices import MailChannel, Notices, WebhookChannel

        notices = Notices(journal, url)
        if settings.webhook is not None:
            channels.append(WebhookChannel(settings.webhook, notices))
        if settings.mail is not None:
            channels.append(MailChannel(settings.mail, notices))
    if settings.openlineage:
        from gristmill.service.telling.lineage import LineageChannel

        channels.append(
            LineageChannel(settings.openlineage, journal, settings.openlineage_token, settings.openlineage_namespace)
        )
    return Tellers(journal, channels)


class HistoryKeeper:
    """Forgets old jobs, now and then, in a thread of its own: their facts, and what is left in their folders.

    Args:
        journal: remembers them.
        keep: which ones stay.
        data_dir: the server's, with the folders of jobs.
        histories: hold what was looked at.
        logs_bytes: what the folders of jobs that are over may hold, with their logs. They go by age with their jobs.
        spare: jobs that must not go now.
        gone: is told of those that went.
    """

    def __init__(
        self,
        journal: Journal,
        keep: KeepHistory,
        data_dir: Path,
        histories: Histories,
        *,
        logs_bytes: int = MAX_TOTAL_BYTES,
        spare: Callable[[str], bool] = lambda _job: False,
        gone: Callable[[Iterable[str]], None] = lambda _jobs: None,
    ) -> None:
        self._journal, self._keep, self._histories = journal, keep, histories
        self._data_dir, self._logs_bytes = data_dir, logs_bytes
        self._spare, self._gone = spare, gone
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gristmill-history", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End. What is half forgotten goes the next time. May be called again."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(_END_SECONDS)

    def forget(self) -> list[str]:
        """Forget what is old now.

        Raises:
            JournalFailed: the journal cannot be read or written.
        """
        return list(self._forgotten())

    def _forgotten(self) -> Iterable[str]:
        for job in forget_old_jobs(
            self._journal.path, self._keep, time.time(), spare=self._spare, goes_on=self._goes_on
        ):
            self._histories.forget(job)
            self._gone([job])
            shutil.rmtree(self._data_dir / "jobs" / job, ignore_errors=True)
            yield job

    def prune(self) -> tuple[str, ...]:
        """Delete what is too much of the folders of jobs that are over, and of the logs in them: the oldest go first.

        Returns:
            The jobs whose folders were deleted.
        """
        age = self._keep.max_age_seconds
        return prune(self._data_dir, time.time(), float("inf") if age is None else age, self._logs_bytes)

    def _goes_on(self) -> bool:
        """After a step: whoever waits to write is first."""
        self._journal.wait_idle(_YIELD_SECONDS)
        return not self._closing.is_set()

    def _run(self) -> None:
        wait = _FIRST_SECONDS
        while not self._closing.wait(wait):
            wait = _EVERY_SECONDS
            try:
                if count := sum(1 for _ in self._forgotten()):
                    _log.info("%d old jobs are forgotten.", count)
                self.prune()
            except JournalFailed as error:  # whoever writes it next will say so
                _log.warning("Old jobs could not be forgotten: %s", error)
            except Exception:  # the last line of this thread: a defect of ours must not end it for good
                _log.exception("Old jobs could not be forgotten.")
