"""OpenLineage: which job read which data and made which, told to a catalogue as run events (https://openlineage.io)."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit
from uuid import NAMESPACE_URL, uuid5

from gristmill.api.places import roots_of, shown
from gristmill.config import VERSION
from gristmill.errors import UsageError
from gristmill.runtime.journal.facts import Fact, JobAccepted, JobBegun, JobEnded
from gristmill.runtime.journal.journal import Journal
from gristmill.runtime.journal.outbox import Message
from gristmill.runtime.journal.summaries import JobSummary
from gristmill.service.drivers import is_loader
from gristmill.service.telling.notices import is_web_url, post_json
from gristmill.service.telling.telling import NeverTold

NAMESPACE = "gristmill"
_PRODUCER = f"urn:gristmill:{VERSION}"
_SCHEMA = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
_FACETS = "https://openlineage.io/spec/facets"
_ENDS = {"succeeded": "COMPLETE", "failed": "FAIL", "cancelled": "ABORT"}
_FIRST_FACTS = 20  # of a job: how it was accepted is among them


class LineageChannel:
    """Tells a catalogue of runs.

    Args:
        url: where run events are posted.
        journal: knows the jobs.
        token: what the catalogue wants to see; empty: nothing, or what the URL says.
        namespace: of the jobs, there.

    Raises:
        UsageError: it is no URL, or names another user than the token.
    """

    name = "openlineage"

    def __init__(self, url: str, journal: Journal, token: str = "", namespace: str = NAMESPACE) -> None:
        if not is_web_url(url):
            raise UsageError("--openlineage: name a URL such as https://HOST/api/v1/lineage.")
        if token and "@" in urlsplit(url).netloc:
            raise UsageError("--openlineage names a user, and --openlineage-token-file a token: give one of them.")
        self._url, self._journal, self._namespace = url, journal, namespace
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def kinds(self, fact: Fact) -> Iterable[str]:
        """See ``Channel``."""
        match fact:
            case JobAccepted() if not fact.queued:
                return ("START",)
            case JobBegun():
                return ("START",)
            case JobEnded():
                return (_ENDS.get(fact.outcome.view.state.value, "OTHER"),)
        return ()

    def tell(self, message: Message) -> None:
        """See ``Channel``."""
        summary = self._journal.summary(message.job)
        if summary is None or is_loader(summary.name, summary.driver):
            raise NeverTold("nothing is remembered of the job.")
        facts = [fact for _, fact in self._journal.numbered(message.job, most=_FIRST_FACTS)]
        accepted = next((fact for fact in facts if isinstance(fact, JobAccepted)), None)
        tries = [fact.epoch for fact in self._journal.tries(message.job) if fact.queued and fact.at <= message.at]
        event = run_event(message, summary, accepted, self._namespace, max(tries, default=0))
        post_json(self._url, json.dumps(event).encode(), self._headers)


def run_event(
    message: Message, summary: JobSummary, accepted: JobAccepted | None, namespace: str = NAMESPACE, epoch: int = 0
) -> dict[str, Any]:
    """One run event.

    Args:
        message: what happened, and when.
        summary: of the job.
        accepted: what it reads; None if that is not known (yet).
        namespace: of the job.
        epoch: with which it was tried again, if it was: each try is a run of its own, for a run ends once.
    """
    run = f"gristmill:{summary.job}:{summary.submitted}" + (f":{epoch}" if epoch else "")
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(message.at)) + f".{int(message.at * 1000) % 1000:03d}Z"
    facets: dict[str, Any] = {}
    if message.kind == "FAIL" and summary.error:
        facets["errorMessage"] = _facet(
            "1-0-1/ErrorMessageRunFacet", message=summary.error, programmingLanguage="python"
        )
    return {
        "eventType": message.kind,
        "eventTime": at,
        "producer": _PRODUCER,
        "schemaURL": _SCHEMA,
        "run": {"runId": str(uuid5(NAMESPACE_URL, run)), "facets": facets},
        "job": {
            "namespace": namespace,
            "name": summary.name,
            "facets": {
                "jobType": _facet(
                    "2-0-3/JobTypeJobFacet", processingType="BATCH", integration="GRISTMILL", jobType="JOB"
                )
            },
        },
        "inputs": [] if accepted is None else [dataset(path) for path in _read(accepted)],
        "outputs": [] if summary.output is None else [dataset(summary.output)],
    }


def _read(accepted: JobAccepted) -> Iterable[str]:
    """The files and folders that a job reads."""
    prepared = accepted.prepared
    if "reads" in prepared:
        return map(str, prepared["reads"])
    return roots_of(str(path) for path, *_ in prepared.get("spec", {}).get("inputs", ()))  # of an earlier version


def dataset(path: str) -> dict[str, str]:
    """A file, folder or object by OpenLineage's naming: ``s3://bucket`` and the key, or ``file`` and the path."""
    parts = urlsplit(shown(path))
    if len(parts.scheme) > 1 and parts.scheme != "file" and parts.netloc:
        return {"namespace": f"{parts.scheme}://{parts.netloc}", "name": parts.path.lstrip("/") or "/"}
    return {"namespace": "file", "name": parts.path if parts.scheme == "file" else path}


def _facet(schema: str, **fields: Any) -> dict[str, Any]:
    version, _, name = schema.partition("/")
    return {"_producer": _PRODUCER, "_schemaURL": f"{_FACETS}/{version}/{name}.json#/$defs/{name}", **fields}
