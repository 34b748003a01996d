"""Pages and their parts as HTML. What was said by users is escaped, always."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gristmill.config import VERSION
from gristmill.service.doors.roles import Caller, Role
from gristmill.service.page import figures, graph, partitions, timeline
from gristmill.service.page.jobview import (
    JobValues,
    counters_of,
    failures_of,
    figures_of,
    graph_of,
    head_of,
    hot_keys_of,
    legend_of,
    spreads_of,
    timeline_of,
)

_TEMPLATES = Path(__file__).parent / "templates"
_MEDIA = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".woff2": "font/woff2"}
_URL = re.compile(r'url\("([^"?]+)"\)')
STATIC = Path(__file__).parent / "static"


class StaticFile:
    """A file that browsers load. It is named after its content, and so may be kept for ever."""

    digest: str

    def __init__(self, path: Path) -> None:
        self.data = path.read_bytes()
        self.media = _MEDIA[path.suffix]
        if path.suffix == ".css":  # the files that it names are kept for ever as well
            text = _URL.sub(
                lambda match: f'url("{match[1]}?v={StaticFile(path.parent / match[1]).digest}")', self.data.decode()
            )
            self.data = text.encode()
        self.digest = hashlib.sha256(self.data).hexdigest()[:12]


@cache
def static_files() -> Mapping[str, StaticFile]:
    """All of them, by name: nothing else can be asked for."""
    found = (path for path in STATIC.rglob("*.*") if path.suffix in _MEDIA)
    return {path.relative_to(STATIC).as_posix(): StaticFile(path) for path in found}


def _static(name: str) -> str:
    return f"/static/{name}?v={static_files()[name].digest}"


@cache
def environment() -> Environment:
    """The templates."""
    made = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters |= {name: getattr(figures, name) for name in figures.__all__}
    made.globals |= {
        "static": _static,
        "version": VERSION,
        "NODE_WIDTH": graph.WIDTH,
        "NODE_HEIGHT": graph.HEIGHT,
        "COLUMNS": timeline.COLUMNS,
        "BARS": partitions.HEIGHT,
    }
    return made


def render(template: str, **values: Any) -> str:
    """A part of a page."""
    return environment().get_template(template).render(now=time.time(), **values)


def page(template: str, caller: Caller, section: str, **values: Any) -> str:
    """A whole page.

    Args:
        template: its file.
        caller: who sees it: what they may not do is not offered.
        section: the entry of the navigation that it belongs to.
        values: what it shows.
    """
    may = {"submit": caller.role.opens(Role.SUBMITTER), "admin": caller.role.opens(Role.ADMIN)}
    return render(template, caller=caller, section=section, may=may, **values)


JOB_PARTS = ("head", "figures", "failure", "plan", "timeline", "partitions", "counters", "retried")
"""What of a job's page is kept live, by the ids of its elements."""


def job_parts(values: JobValues) -> dict[str, str]:
    """The live parts of a job's page; the same for all who see it."""
    line, (end, retried) = timeline_of(values), failures_of(values)
    shown: dict[str, Any] = {
        "job": head_of(values),
        "figures": figures_of(values),
        "failure": end,
        "retried": retried,
        "graph": graph_of(values),
        "line": line,
        "legend": legend_of(line, values.view.stages),
        "spreads": spreads_of(values),
        "hot_keys": hot_keys_of(values),
        "counters": counters_of(values),
        "adaptations": values.view.adaptations,
    }
    return {name: render(f"job/{name}.html", **shown) for name in JOB_PARTS}
