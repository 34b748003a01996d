"""The Ray fleet: members are Ray actors, which hold the slots; Ray gives them places, and moves blocks between them."""

from __future__ import annotations

import atexit
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from gristmill.errors import FailureReport, GristmillError
from gristmill.fleets.attended import AttendedFleet
from gristmill.fleets.ray.placing import Berth, Node, berths, further, largest_of
from gristmill.fleets.ray.settings import RaySettings
from gristmill.runtime.contracts import FleetEvent, JobRejected, JobSpec, Post
from gristmill.shuffle.contracts import BlockInfo

if TYPE_CHECKING:
    from gristmill.fleets.ray.connecting import Connection
    from gristmill.fleets.ray.crew import Crew

BEAT_SECONDS = 1.0
_MOST_BEATS = 100  # a second, of all members together: each is a call, and takes half a millisecond of this process
LOST_SECONDS = 60.0  # Ray tells sooner of those that die; this is for those that neither die nor work


class RayFleet(AttendedFleet):
    """Slots on a Ray cluster. See :class:`~gristmill.runtime.contracts.Fleet`.

    Args:
        settings: how it is to be.
        bundle_of: the modules that travel with a job, as a zip file, given its code.
    """

    def __init__(self, settings: RaySettings, bundle_of: Callable[[bytes], bytes | None]) -> None:
        from gristmill.runtime.files.joblogs import LogKeeper

        super().__init__(LogKeeper())
        self._settings = settings
        self._bundle_of = bundle_of
        self._connection: Connection | None = None
        self._crew: Crew | None = None
        self._post: Post = _unheard
        self._packed: tuple[str, bytes | None] = "", None  # the bundle of the job that was packed last, and its code
        self._blobs_of: dict[str, list[str]] = {}  # by job, those that it needs

    def start(self, post: Post) -> None:
        """Connect to the cluster, and ask it for members.

        Raises:
            UsageError: Ray is not installed, or the cluster can never run such tasks.
            RayUnreachable: the cluster does not answer.
            VersionMismatch: it is of another version.
        """
        from gristmill.fleets.ray.connecting import connect

        settings, self._post = self._settings, post
        self._connection = connection = connect(settings)
        from gristmill.fleets.ray.crew import Crew
        from gristmill.fleets.ray.moving import read_from_members
        from gristmill.fleets.roster import Roster

        nodes, shared = connection.nodes(), connection.is_shared()
        wanted = berths(
            nodes,
            settings.executors,
            settings.task_cpus,
            settings.task_memory_bytes,
            settings.memory_bytes,
            shared=shared,
            grows=connection.grows(),
        )
        read_from_members()
        beat_seconds = max(BEAT_SECONDS, len(wanted) / _MOST_BEATS)
        roster = Roster(post, beat_seconds, LOST_SECONDS, self._awaited, self._logs, patient=True)
        namespace = f"gristmill-{secrets.token_hex(4)}"
        self._crew = Crew(
            roster,
            post,
            wanted,
            largest_of(nodes),
            settings,
            namespace,
            connection.data_dir,
            connection.nodes,
            partial(self._further, shared=shared),
            reserves=not connection.own,
        )
        self._attend(roster, self._crew)
        self._crew.begin()
        atexit.register(self.close)  # Ray lets go of this process at its end, and is to be there when members leave

    def _further(self, nodes: Sequence[Node], asked: Sequence[Berth], *, shared: bool) -> list[Berth]:
        """What to ask of Ray besides, now that there are these nodes."""
        settings = self._settings
        if settings.executors or settings.memory_bytes:
            return []  # it was said how many there are, or what they have together
        return further(nodes, asked, settings.task_cpus, settings.task_memory_bytes, shared=shared)

    def pack(self, code: bytes) -> None:
        """Gather the modules that travel with a job, before it is submitted: so what is wrong with them is said there.

        Raises:
            UsageError: they are too large, or cannot be read.
        """
        self._packed = sha256(code).hexdigest(), self._bundle_of(code)

    def add_job(self, job: JobSpec) -> None:
        """Make a job known to all members, with what it needs."""
        code = sha256(job.code).hexdigest()
        try:
            bundle = self._packed[1] if self._packed[0] == code else self._bundle_of(job.code)
            blobs = {code: job.code, **{Path(path).name: Path(path).read_bytes() for path in job.broadcasts}}
        except (GristmillError, OSError) as error:  # a job that is taken up, whose modules have gone
            self._post(JobRejected(job.job, FailureReport("TaskError", str(error))))
            return
        names = []
        if bundle is not None:
            names.append(sha256(bundle).hexdigest())
            blobs[names[0]] = bundle
        broadcasts = {Path(path).name for path in job.broadcasts}
        crew = self._crew
        assert crew is not None, "it was started"
        for name, data in blobs.items():
            crew.ask(lambda name=name, data=data: crew.keep_blob(name, data))  # type: ignore[misc]
        self._blobs_of[job.job] = [name for name in blobs if name not in broadcasts]  # those are the session's
        super().add_job(replace(job, bundles=tuple(names), broadcasts=tuple(sorted(broadcasts)), import_paths=()))

    def drop_job(self, job: str) -> None:
        """Forget a job; members delete what they keep of it."""
        super().drop_job(job)
        self._forget_blobs(job)

    def keep_job(self, job: str) -> None:
        """Forget a job; members keep its blocks, until it is dropped."""
        super().keep_job(job)
        self._forget_blobs(job)

    def _forget_blobs(self, job: str) -> None:
        crew = self._crew
        _, _, broadcast = job.partition("/")
        names = [broadcast] if broadcast else self._blobs_of.pop(job, [])
        needed = {name for others in self._blobs_of.values() for name in others}
        if crew is not None:
            for name in names:
                if name not in needed:
                    crew.ask(lambda name=name: crew.forget_blob(name))  # type: ignore[misc]

    def bring(self, blocks: Sequence[BlockInfo], scratch: Path, owner: str, secret: str) -> Iterator[BlockInfo]:
        """Blocks of rows, readable here, one after the other: see :func:`~.executor.reading.bring_in_turn`."""
        from gristmill.fleets.ray.moving import own_node
        from gristmill.runtime.executor.reading import bring_in_turn

        return bring_in_turn(blocks, lambda: self.block_sources, own_node(), scratch, owner, secret)

    def close(self) -> None:
        """End all members, and the cluster if it is our own. May be called again."""
        atexit.unregister(self.close)
        super().close()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        if self._logs is not None:
            self._logs.close()


def _unheard(_event: FleetEvent) -> None:
    """Stands in for whoever listens until ``start`` names one."""
