"""The Ray fleet: members are Ray actors, which hold the slots; Ray gives them places, and moves blocks between them."""

from __future__ import annotations

import atexit
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from gristmill.errors import FailureReport, GristmillError, PathNotShared
from gristmill.fleets.attended import AttendedFleet
from gristmill.fleets.ray.placing import Berth, Node, berths, further, largest_of
from gristmill.fleets.ray.settings import RaySettings
from gristmill.fleets.ray.words import not_seen
from gristmill.runtime.contracts import FleetEvent, JobRejected, JobSpec, Post, TaskSpec
from gristmill.shuffle.contracts import BlockInfo

if TYPE_CHECKING:
    from gristmill.fleets.ray.bringing import Bringer
    from gristmill.fleets.ray.connecting import Connection
    from gristmill.fleets.ray.crew import Crew

BEAT_SECONDS = 1.0
_MOST_BEATS = 100  # a second, of all members together: each is a call, and takes half a millisecond of this process
LOST_SECONDS = 60.0  # Ray tells sooner of those that die; this is for those that neither die nor work
_MOST_PACKED = 16  # bundles of jobs that are not added yet


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
        self._bringer: Bringer | None = None
        self._post: Post = _unheard
        self._packing = threading.Lock()
        self._packed: dict[str, bytes | None] = {}  # bundles of jobs that are about to be added, by their codes
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
        from gristmill.fleets.ray.bringing import Bringer
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
        self._bringer = Bringer(post, lambda: self.block_sources, self.free)
        roster = Roster(self._hear, beat_seconds, LOST_SECONDS, self._awaited, self._logs, patient=True)
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

    def _hear(self, event: FleetEvent) -> None:
        """What the roster says, in words that who runs a job on Ray understands."""
        if isinstance(event, JobRejected) and event.report.error == PathNotShared.__name__:
            event = replace(event, report=not_seen(event.report))
        assert self._bringer is not None, "it was started"
        self._bringer.hear(event)

    def _further(self, nodes: Sequence[Node], asked: Sequence[Berth], *, shared: bool) -> list[Berth]:
        """What to ask of Ray besides, now that there are these nodes."""
        settings = self._settings
        if settings.executors or settings.memory_bytes:
            return []  # it was said how many there are, or what they have together
        return further(nodes, asked, settings.task_cpus, settings.task_memory_bytes, shared=shared)

    def pack(self, code: bytes) -> None:
        """Gather the modules that travel with a job, before it is submitted: so what is wrong with them is said there.

        From any thread.

        Raises:
            UsageError: they are too large, or cannot be read.
        """
        bundle = self._bundle_of(code)
        with self._packing:
            self._packed[sha256(code).hexdigest()] = bundle
            while len(self._packed) > _MOST_PACKED:  # jobs that came to nothing before they were submitted
                del self._packed[next(iter(self._packed))]

    def _bundle(self, job: JobSpec, code: str) -> bytes | None:
        with self._packing:
            if code in self._packed:
                return self._packed.pop(code)
        return self._bundle_of(job.code)

    def add_job(self, job: JobSpec) -> None:
        """Make a job known to all members, once what it needs is where they find it."""
        crew = self._crew
        assert crew is not None, "it was started"
        code = sha256(job.code).hexdigest()
        try:
            bundle = self._bundle(job, code)
        except GristmillError as error:  # a job that is taken up, whose modules have gone
            self._post(JobRejected(job.job, FailureReport("TaskError", str(error))))
            return
        broadcasts = {Path(path).name: Path(path) for path in job.broadcasts}  # those are the session's
        blobs: dict[str, Callable[[], bytes]] = {name: path.read_bytes for name, path in broadcasts.items()}
        blobs[code] = lambda: job.code
        bundles = () if bundle is None else (sha256(bundle).hexdigest(),)
        blobs |= {name: lambda: bundle or b"" for name in bundles}
        told = replace(job, bundles=bundles, broadcasts=tuple(sorted(broadcasts)), import_paths=())
        assert self._bringer is not None, "it was started"
        try:
            told = self._bringer.add_job(told)
        except OSError as error:
            what = f"The output's folder cannot be written: {error.strerror or error}: {job.staging}."
            self._post(JobRejected(job.job, FailureReport("TaskError", what)))
            return
        self._blobs_of[job.job] = [code, *bundles]

        def refuse(error: Exception) -> None:
            what = f"What the job needs cannot be sent to the Ray cluster: {type(error).__name__}: {error}"
            self._post(JobRejected(job.job, FailureReport("TaskError", what)))

        crew.ask(lambda: crew.blobs.bring(job.job, blobs, lambda: self._tell_job(told, code), refuse))

    def launch(self, slot: str, spec: TaskSpec) -> None:
        """Run an attempt in a slot. If the slot's member is gone, that is the answer."""
        if self._bringer is not None:
            self._bringer.launched(spec.attempt, slot)
        super().launch(slot, spec)

    def drop_job(self, job: str) -> None:
        """Forget a job; members delete what they keep of it."""
        self._forget_blobs(job)
        super().drop_job(job)

    def keep_job(self, job: str) -> None:
        """Forget a job; members keep its blocks, until it is dropped."""
        self._forget_blobs(job)
        super().keep_job(job)

    def _forget_blobs(self, job: str) -> None:
        if self._bringer is not None:
            self._bringer.drop_job(job)
        crew = self._crew
        _, _, broadcast = job.partition("/")
        names = [broadcast] if broadcast else self._blobs_of.pop(job, [])
        needed = {name for others in self._blobs_of.values() for name in others}
        if crew is not None:
            crew.ask(partial(crew.blobs.give_up, job))
            for name in names:
                if name not in needed:
                    crew.ask(partial(crew.blobs.forget, name))

    def bring(self, blocks: Sequence[BlockInfo], scratch: Path, owner: str, secret: str) -> Iterator[BlockInfo]:
        """Blocks of rows, readable here, one after the other: see :func:`~.executor.reading.bring_in_turn`."""
        from gristmill.fleets.ray.moving import own_node
        from gristmill.runtime.executor.reading import bring_in_turn

        return bring_in_turn(blocks, lambda: self.block_sources, own_node(), scratch, owner, secret)

    def close(self) -> None:
        """End all members, and the cluster if it is our own. May be called again."""
        atexit.unregister(self.close)
        if self._bringer is not None:
            self._bringer.close()
        super().close()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        if self._logs is not None:
            self._logs.close()


def _unheard(_event: FleetEvent) -> None:
    """Stands in for whoever listens until ``start`` names one."""
