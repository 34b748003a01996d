"""What to say when a Ray cluster is not as it must be. Functions of what Ray says; it says most of it in prose."""

from __future__ import annotations

import re
from dataclasses import replace

from gristmill.config import PYTHON_VERSION, VERSION, format_size
from gristmill.errors import FailureReport, GristmillError, RayFull, RayUnreachable, VersionMismatch
from gristmill.fleets.ray.placing import Node

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_MISSING = re.compile(r"No module named '(gristmill[\w.]*)'")
_TOKEN = (
    "It lets in only who has its token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to the file that holds it."
)
_MOST = 500  # characters of what Ray says


def not_installed(error: ImportError) -> str:
    """Ray cannot be imported here."""
    why = "" if isinstance(error, ModuleNotFoundError) and error.name == "ray" else f" ({error})"
    return f"Ray is not installed here{why}. Install it with: pip install 'gristmill[ray]'"


def refused(address: str, error: BaseException) -> GristmillError:
    """Why this process cannot join a cluster."""
    said = [one_line(one) for one in _chain(error)]
    if any("ersion mismatch" in text for text in said):
        found = next(text for text in said if "ersion mismatch" in text)
        return VersionMismatch(
            f"The Ray cluster at {address} does not match this process. {found} Both must have the same version "
            "of Ray, and the same minor version of Python."
        )
    if any("Authentication" in text or "InvalidAuthToken" in text for text in said):
        return RayUnreachable(f"The Ray cluster at {address} does not let this process in. {_TOKEN}")
    what = f"The Ray cluster at {address} does not answer: {said[0][:_MOST].rstrip('.')}."
    if isinstance(error, ConnectionAbortedError):
        return RayUnreachable(what)
    hint = "If it has a token, this process needs it too: RAY_AUTH_MODE=token, RAY_AUTH_TOKEN_PATH=FILE."
    if address.startswith("ray://"):
        hint += " And ray:// leads to the port of Ray Client, which is 10001 if nobody has set another: not 6379."
    return RayUnreachable(f"{what} {hint}")


def no_member(error: BaseException) -> FailureReport:
    """Why no member of a fleet comes up."""
    text = one_line(error)
    if missing := _MISSING.search(text):
        what = "no Gristmill" if missing[1] == "gristmill" else f"another Gristmill, without {missing[1]}"
        return _report(
            VersionMismatch,
            f"The nodes of the Ray cluster have {what}: install gristmill[ray]=={VERSION} in their image.",
        )
    return FailureReport("TaskError", f"No member of the fleet comes up on the Ray cluster: {text}")


def is_final(error: BaseException) -> bool:
    """Whether it makes no sense to try another member."""
    return _MISSING.search(one_line(error)) is not None


def other_version(host: str, python: str, version: str) -> FailureReport:
    """A node has other versions than this process."""
    return _report(
        VersionMismatch,
        f"The node {host} of the Ray cluster runs Gristmill {version} on Python {python}, and this process runs "
        f"Gristmill {VERSION} on Python {PYTHON_VERSION}. Both must be the same, for code travels: install "
        f"gristmill[ray]=={VERSION} in the image of the nodes.",
    )


def not_seen(report: FailureReport) -> FailureReport:
    """A node does not see what a job reads. ``report`` is the roster's: of a worker, and for a coordinator."""
    host = str(report.details.get("worker", "")).rpartition("#")[0]
    what = report.message.partition(": ")[2]
    return replace(
        report,
        message=f"The node {host} of the Ray cluster does not see what this machine sees: {what} The nodes read inputs "
        "themselves: put them where the nodes and this machine find them under the same name, in an object store "
        "(s3://…) or on a mount. Only the output may be on this machine alone.",
    )


def waiting_for_room(missing: int, wanted: int, cpus: float) -> str:
    """What is waited for. ``cpus``: of an actor."""
    each = f"{cpus:g} CPU{'' if cpus == 1 else 's'}{' each' if wanted > 1 else ''}"
    return (
        f"Ray has no room yet for {missing} of {wanted} actors ({each}): they are being started, others hold the room, "
        "or nodes are still to come."
    )


def no_room(seconds: float, cpus: float, memory_bytes: int, largest: Node) -> FailureReport:
    """Ray has found no place for a single member in all that time."""
    memory = f" and {format_size(memory_bytes)} of memory" if memory_bytes else ""
    return _report(
        RayFull,
        f"In {seconds:g} s the Ray cluster has found no room for a single slot, which takes {cpus:g} CPUs{memory}: "
        f"others hold what there is, or no node is added. Its largest node has {largest.cpus:g} CPUs and "
        f"{format_size(largest.memory_bytes)} in all.",
    )


def head_silent(seconds: float) -> FailureReport:
    """The cluster's head has not answered for so long."""
    return _report(RayUnreachable, f"The head of the Ray cluster is gone: nothing has come from it for {seconds:g} s.")


def connection_lost(error: BaseException) -> FailureReport:
    """The connection to the cluster has ended."""
    return _report(RayUnreachable, f"The connection to the Ray cluster is lost: {one_line(error)[:_MOST]}")


def one_line(error: BaseException) -> str:
    """What an exception says, without colours and lines."""
    return " ".join(_COLOURS.sub("", str(error)).split())


def _report(kind: type[GristmillError], message: str) -> FailureReport:
    return FailureReport(kind.__name__, message)


def _chain(error: BaseException | None) -> list[BaseException]:
    found = []
    while error is not None:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found
