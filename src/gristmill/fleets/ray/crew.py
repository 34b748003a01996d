"""The driver's end: makes the fleet's actors, carries what is said to and by them, and makes others when they die.

Each member's life is one coroutine in this thread. What is said travels in batches: a call carries all orders that
there are, and another one waits for what the member has to say.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import ray

from gristmill.errors import FailureReport
from gristmill.fleets.ray.aside import Aside, come
from gristmill.fleets.ray.blobs import Blobs, Untold
from gristmill.fleets.ray.lookout import Lookout, patience_seconds
from gristmill.fleets.ray.member import Member
from gristmill.fleets.ray.placing import Berth, Node
from gristmill.fleets.ray.settings import MemberSettings, RaySettings
from gristmill.fleets.ray.words import (
    connection_lost,
    head_silent,
    is_final,
    no_member,
    no_room,
    one_line,
    other_version,
    waiting_for_room,
)
from gristmill.runtime.contracts import FleetBroken, Post
from gristmill.runtime.protocol import agents as pb
from gristmill.runtime.transport.link import Desk, Link
from gristmill.runtime.transport.loop_thread import LoopThread
from gristmill.runtime.transport.session import SessionBroken

_log = logging.getLogger(__name__)

_CLOSE_SECONDS = 5.0
_LEAVE_SECONDS = 3.0  # for members to delete what they keep; then they are ended …
_END_SECONDS = 1.0  # … which takes a moment
_MOST_FAILURES = 4  # of a member in a row, before any was there: then it is no accident
_WENT_WELL_SECONDS = 30.0  # after a session of so long the next failure is the first again
_UNREACHABLE_SECONDS = 20.0  # for an actor that lives to be reached again
_PAUSE_SECONDS = 0.5  # before a member is made anew; doubled each time
_PAUSE_LIMIT_SECONDS = 30.0
_LOOK_SECONDS = 1.0  # how often is seen whether members have places, and whether Ray answers
_NOTE_SECONDS = 10.0  # without a place for a member it is said what is waited for
_TALKERS = 3  # threads of an actor: one that listens, one that is told, one to spare
_SERVERS = 4  # … and those that read blocks for others


class Crew(LoopThread):
    """Carries the sessions of the members of a fleet.

    Args:
        desk: who decides.
        post: is told when the fleet cannot go on.
        berths: what members are asked for.
        largest: the node of the cluster that has most.
        settings: of the fleet.
        namespace: Ray's, for the actors' names.
        data_dir: where members keep blocks; empty: in their nodes' own folders.
        look: asks Ray what each node has; may block.
        further: which members are to be asked for besides, given the nodes and those that were asked for.
        reserves: whether Ray counts what members take; not where nobody else is.
    """

    def __init__(
        self,
        desk: Desk,
        post: Post,
        berths: Sequence[Berth],
        largest: Node,
        settings: RaySettings,
        namespace: str,
        data_dir: str,
        look: Callable[[], Sequence[Node]],
        further: Callable[[Sequence[Node], Sequence[Berth]], Sequence[Berth]],
        *,
        reserves: bool = True,
    ) -> None:
        super().__init__("gristmill-ray")
        self._desk = desk
        self._post = post
        self._berths = list(berths)
        self._largest = largest
        self._reserves = reserves
        self._settings = settings
        self._namespace = namespace
        self._data_dir = data_dir
        self._look, self._further = look, further
        self._orders = Aside("gristmill-ray-orders")
        self._silent_seconds = 0.0  # since Ray answered
        self._lives: list[asyncio.Task[None]] = []  # those of members
        self._count = 0  # of actors, ever
        self._actors: dict[str, Any] = {}  # those that live, by name
        self.blobs = Blobs()  # to be asked in this thread
        self._joined = 0  # members, ever
        self._attended: dict[str, float] = {}  # actors whose sessions run, and when they count as being there

    # For the fleet.

    def end(self, link: Link, kind: int, reason: str) -> None:
        """End a session. Its member is ended too, and another made."""
        if link.refusal is None:
            link.refusal = pb.Refusal(kind=kind, reason=reason)  # type: ignore[arg-type]  # enums are ints
            link.wake()

    def close(self, seconds: float = _CLOSE_SECONDS) -> None:
        """End all members. Bounded."""
        super().close(seconds)

    # The thread.

    async def serve(self) -> None:
        """Keep all members up until it is told to stop."""
        for berth in self._berths:
            self._begin_life(berth)
        notes = [asyncio.create_task(self._watch_places()), asyncio.create_task(self._watch_ray())]
        self.ready()
        await self.stopped()
        there = [self._actors[name] for name in self._attended]
        for task in (*notes, *self._lives):
            task.cancel()
        await asyncio.gather(*notes, *self._lives, return_exceptions=True)
        await self._dismiss(there)

    def _begin_life(self, berth: Berth) -> None:
        life = asyncio.create_task(self._keep_up(berth))
        life.add_done_callback(self._over)
        self._lives.append(life)

    def _over(self, life: asyncio.Task[None]) -> None:
        """A member's life has ended, and it should not have: nobody else would hear of it."""
        if not life.cancelled() and (error := life.exception()) is not None:
            _log.error("the care for a member failed", exc_info=error)
            message = f"The fleet on Ray failed: {type(error).__name__}: {error}"
            lost = connection_lost(error) if isinstance(error, OSError) else None
            self._post(FleetBroken(lost or FailureReport("TaskError", message)))

    async def _dismiss(self, there: Sequence[Any]) -> None:
        """Let members delete what they keep; then end them, and those that never were there."""
        left = []
        with contextlib.suppress(ray.exceptions.RayError, OSError, RuntimeError):  # the connection is gone
            left = [asyncio.ensure_future(_awaited(actor.leave.remote())) for actor in there]
        if left:
            await asyncio.wait(left, timeout=_LEAVE_SECONDS)
        for actor in self._actors.values():
            self._orders.do(partial(_end, actor))
        last = [come(self._orders.do(lambda: None)), come(self.blobs.close())]  # then nobody here asks Ray for anything
        await asyncio.wait(last, timeout=_END_SECONDS)
        self._orders.close()

    async def _watch_places(self) -> None:
        """Say what is waited for, and give up when there was no member at all for too long."""
        clock = asyncio.get_running_loop().time
        now = last = noted = clock()  # when a member was last there, and when it was last said that one is not
        while now - last < self._settings.place_seconds:
            await asyncio.sleep(min(_LOOK_SECONDS, self._settings.place_seconds))
            now = clock()
            if any(since <= now for since in self._attended.values()):
                last = now
            missing = len(self._berths) - len(self._attended)
            if missing and now - noted > (_NOTE_SECONDS if noted == last else 6 * _NOTE_SECONDS):
                noted = now
                _log.warning("%s", waiting_for_room(missing, len(self._berths), self._berths[-1].cpus))
            elif not missing:
                noted = now
        berth = self._berths[-1]
        slot_bytes = berth.memory_bytes // berth.slots
        report = no_room(self._settings.place_seconds, self._settings.task_cpus, slot_bytes, self._largest)
        self._post(FleetBroken(report))

    async def _watch_ray(self) -> None:
        """Ask for more members when there are more nodes; give up when Ray's head is gone, for Ray would end us."""
        loop, patience = asyncio.get_running_loop(), patience_seconds()

        def seen(nodes: Sequence[Node]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._seen, nodes)

        lookout = Lookout(self._look, seen)
        try:
            while self._silent_seconds < patience:
                before = loop.time()
                await asyncio.sleep(_LOOK_SECONDS)
                # A longer nap is one in which this process was stopped, and the lookout with it.
                self._silent_seconds += min(loop.time() - before, 2 * _LOOK_SECONDS)
        finally:
            lookout.close()
        self._post(FleetBroken(head_silent(patience)))

    def _seen(self, nodes: Sequence[Node]) -> None:
        """Ray has answered."""
        self._silent_seconds = 0.0
        if self.is_stopping:
            return
        for berth in self._further(nodes, self._berths):
            self._berths.append(berth)
            self._begin_life(berth)

    async def _keep_up(self, berth: Berth) -> None:
        """One member, and those that take its place."""
        failures, clock = 0, asyncio.get_running_loop().time
        turned_away = False  # those before: the next may be, too, and until it is known nobody is there
        while True:
            settings = self._member(berth)
            actor = await come(self._orders.do(partial(self._made, berth, settings)))
            self._actors[settings.name] = actor
            untold = self.blobs.begin(settings.name)
            began = None
            try:
                patience = self._settings.split_seconds if berth.slots > 1 and self._reserves else None
                join = pb.Join.FromString(await asyncio.wait_for(_answer(actor.join.remote()), patience))
                began = clock()
                self._joined += 1
                self._attended[settings.name] = began + (_WENT_WELL_SECONDS if turned_away else 0.0)
                turned_away = await self._attend(actor, settings.name, join, untold)
            except TimeoutError:  # nodes have become smaller, say: there may be room for some
                self._split(berth)
                return
            except ray.exceptions.RayError as error:
                _log.debug("a member did not come up", exc_info=True)
                if not self._joined and (failures + 1 >= _MOST_FAILURES or is_final(error)):
                    self._post(FleetBroken(no_member(error)))
                    return
                if failures + 1 == _MOST_FAILURES:
                    _log.warning("%s", no_member(error).message)
            finally:
                self.blobs.end(settings.name)
                self._attended.pop(settings.name, None)
                if not self.is_stopping:  # else it is asked to leave first
                    del self._actors[settings.name]
                    self._orders.do(partial(_end, actor))
            failures = 0 if began is not None and clock() - began > _WENT_WELL_SECONDS else failures + 1
            await asyncio.sleep(min(_PAUSE_SECONDS * 2 ** min(failures - 1, 10), _PAUSE_LIMIT_SECONDS))

    def _made(self, berth: Berth, settings: MemberSettings) -> Any:
        """An actor. Aside."""
        if self.is_stopping:
            raise OSError("the fleet ends")
        return _made(berth, settings, self._reserves)

    def _split(self, berth: Berth) -> None:
        """Ask for the slots of a member one by one."""
        self._berths.remove(berth)
        for one in berth.singles():
            self._berths.append(one)
            self._begin_life(one)

    def _member(self, berth: Berth) -> MemberSettings:
        self._count += 1
        return MemberSettings(
            namespace=self._namespace,
            name=f"{self._namespace}-{self._count}",
            executors=berth.slots,
            cpus=berth.cpus,
            memory_bytes=berth.memory_bytes or None,
            limits=self._settings.limits,
            data_dir=self._data_dir,
        )

    async def _attend(self, actor: Any, name: str, join: pb.Join, untold: Untold) -> bool:
        """One session, from its begin to its end. Says whether it was ended from here, and not by what happened."""
        link = Link(join.session)
        answer = self._desk.join(link, join)
        if isinstance(answer, pb.Refusal):
            if answer.kind == pb.Refusal.VERSION:
                report = other_version(join.host, join.python, join.version)
                if self._attended.keys() == {name}:
                    self._post(FleetBroken(report))
                _log.warning("%s", report.message)
            self._attended[name] = math.inf
            while True:  # there is nothing to be done for it until it dies, and one on another node comes in its place
                await asyncio.sleep(_PAUSE_LIMIT_SECONDS)
                await _answer(actor.join.remote())
        link.welcome = answer
        reason = "It was told to leave."
        both: list[asyncio.Task[None]] = []
        try:
            await _answer(actor.welcome.remote(link.id, answer.SerializeToString()))
            both = [
                asyncio.create_task(self._listen(actor, link)),
                asyncio.create_task(self._tell(actor, link, untold)),
            ]
            done, _ = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except (ray.exceptions.RayError, SessionBroken, ValueError, OSError) as error:
            reason = _why(error)
        finally:
            for task in both:
                task.cancel()
        if link.refusal is not None:
            return True
        _log.warning("worker %s is lost: %s", link.worker, reason)
        self.end(link, pb.Refusal.FENCED, reason)
        self._desk.lose(link, reason)
        return False

    async def _tell(self, actor: Any, link: Link, untold: Untold) -> None:
        """Carry orders to a member, as many at a time as there are."""
        while link.refusal is None:
            message = link.next_message(idle=False)
            if message is None:
                await link.wait(_NOTE_SECONDS)
                continue
            blobs, data = dict(untold), message.SerializeToString()
            untold.clear()
            heard = await _insist(partial(actor.hear.remote, link.id, data, blobs))
            link.session.acknowledge(heard)

    async def _listen(self, actor: Any, link: Link) -> None:
        """Wait for what a member has to say, again and again."""
        while link.refusal is None:
            message = pb.FromAgent.FromString(await _insist(lambda: actor.listen.remote(link.id, link.session.heard)))
            if link.refusal is not None:
                return  # it was given up meanwhile
            if events := link.session.hear(message.first, message.events):
                self._desk.hear(link, events)
            if message.HasField("beat") and link.refusal is None:
                self._desk.beat(link, message.beat)


async def _insist(call: Callable[[], Any]) -> Any:
    """What a call gives that may be made twice; it is, while its actor cannot be reached for a moment."""
    clock, until = asyncio.get_running_loop().time, 0.0
    while True:
        try:
            return await _answer(call())
        except ray.exceptions.ActorUnavailableError as error:
            until = until or clock() + _UNREACHABLE_SECONDS  # from the first on: a call before may have taken long
            if clock() > until:
                raise
            _log.debug("an actor cannot be reached for a moment: %s", error)
        await asyncio.sleep(_PAUSE_SECONDS)


def _answer(reference: Any) -> asyncio.Future[Any]:
    """What a call will give. It is not given up when nobody waits for it any more: Ray Client would complain."""
    return come(reference.future())


def _made(berth: Berth, settings: MemberSettings, reserves: bool) -> Any:
    """An actor. Ray gives it a place, now or later."""
    options: dict[str, Any] = {
        "name": settings.name,
        "namespace": settings.namespace,
        "num_cpus": berth.cpus if reserves else 0,
        "max_restarts": 0,  # its death is known a hundred times sooner than that of one that Ray restarts
        "max_task_retries": 0,
        "scheduling_strategy": "SPREAD",
    }
    if berth.memory_bytes and reserves:
        options["memory"] = berth.memory_bytes
    return _actor_class().options(**options).remote(settings)


@cache
def _actor_class() -> Any:
    kind: Any = type("GristmillMember", (Member,), {})
    made: Any = ray.remote(concurrency_groups={"serve": _SERVERS, "talk": _TALKERS})  # type: ignore[call-overload]
    return made(kind)


async def _awaited(reference: Any) -> None:
    with contextlib.suppress(ray.exceptions.RayError, OSError, RuntimeError):
        await _answer(reference)


def _end(actor: Any) -> None:
    gone = ray.exceptions.RayError, ValueError, OSError, RuntimeError  # it, or the connection
    with contextlib.suppress(*gone):
        ray.kill(actor, no_restart=True)


def _why(error: Exception) -> str:
    """Why a member is lost, in a sentence."""
    text = one_line(error)
    if isinstance(error, ray.exceptions.RayActorError):
        return f"Its Ray actor died: {text}"
    return f"{type(error).__name__}: {text}"
