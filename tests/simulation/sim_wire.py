"""A connection that loses, repeats and reorders packets, and the engine's own sessions above it.

Both ends are real ``runtime.session`` sessions. Packets below them are dropped, come twice, or are overtaken, as the
seed says; a gap, a closed stream or silence breaks the stream, and the agent opens another one, of which every packet
may be lost as well. What the sessions hand out is what the scheduler and the workers see; each message is counted on
its way, so that one that is lost, comes twice or out of order is noticed here, whatever it would do further up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from sim_world import World

from gristmill.runtime.transport.session import Session

SILENCE_SECONDS = 2.5
"""An agent that hears nothing for so long takes its stream for broken."""

What = Callable[[], None]
Item = tuple[int, What]  # the count is the test's own, beside the session's numbers


@dataclass(frozen=True)
class Weather:
    """What happens to packets, as shares of them. They are lost until ``clear_at``."""

    lost: float
    repeated: float
    overtaken: float
    clear_at: float


class Kind(Enum):
    """What a packet is for."""

    JOIN = "a stream begins, says the agent"
    WELCOME = "it has begun, says the coordinator"
    NEWS = "messages, or none"
    CLOSED = "this stream is broken"
    REFUSED = "the session is over"


@dataclass(frozen=True)
class Packet:
    """What travels."""

    stream: int
    kind: Kind
    heard: int = 0
    first: int = 0
    items: tuple[Item, ...] = ()
    beat: What | None = None
    after: int = 0  # the beat was made when so much had been said


class Line:
    """One direction: late, mostly in order."""

    def __init__(self, world: World, weather: Weather) -> None:
        self._world, self._weather = world, weather
        self._last = 0.0
        self.held_until = 0.0

    def send(self, what: What) -> None:
        world, weather = self._world, self._weather
        if world.now < weather.clear_at and world.chance(0.5 if world.now < self.held_until else weather.lost):
            return
        for _ in range(1 + world.chance(weather.repeated)):
            at = max(world.now + world.random.choice((0.0, 0.001, 0.001, 0.01, 0.1)), self.held_until)
            if world.chance(weather.overtaken):
                at += world.random.choice((0.02, 0.5))  # those behind it do not wait
            else:
                self._last = at = max(at, self._last)
            world.at(at, what)


class End:
    """One end of a connection. ``send`` and ``beat`` are those of a ``Wire``."""

    def __init__(self, world: World, line: Line, arrive: Callable[[What], None]) -> None:
        self.world, self.line = world, line
        self._arrive = arrive  # how the other end's process takes what comes: when it is awake
        self.session: Session[Item] = Session()
        self.other: End
        self.stream = 0
        self.is_up = False
        self.is_over = False
        self._said = self._given = 0

    @property
    def held_until(self) -> float:
        """Until when nothing passes."""
        return self.line.held_until

    @held_until.setter
    def held_until(self, when: float) -> None:
        self.line.held_until = when

    def send(self, what: What) -> None:
        """Have something happen at the other end: once, and after what was sent before."""
        if not self.is_over:
            self._said += 1
            self.session.say((self._said, what))
            self.flush()

    def beat(self, what: What) -> None:
        """The same for what need not arrive: it happens only if all that was said before has arrived."""
        self.flush(what)

    def flush(self, beat: What | None = None) -> None:
        """Send what waits."""
        while self.is_up and (self.session.has_more or beat is not None):
            first, items = self.session.take(self.world.random.choice((1, 3, 1000)))
            last = None if self.session.has_more else beat
            self.put(Kind.NEWS, first=first, items=tuple(items), beat=last, after=self.session.said)
            beat = None if last is not None else beat

    def put(self, kind: Kind, **fields: object) -> None:
        """Send a packet."""
        packet = Packet(self.stream, kind, self.session.heard, **fields)  # type: ignore[arg-type]
        self.line.send(lambda: self._arrive(lambda: self.other.take(packet)))

    def take(self, packet: Packet) -> None:
        """A packet comes."""
        raise NotImplementedError

    def hear(self, packet: Packet) -> bool:
        """Take the news of a packet; False if something before it is missing."""
        if packet.first > self.session.heard + 1:
            return False
        self.session.acknowledge(packet.heard)
        for count, what in self.session.hear(packet.first, packet.items):
            self._given += 1
            assert count == self._given, f"message {count} is handed out as the {self._given}th"
            what()
        if packet.beat is not None and packet.after == self.session.heard:
            packet.beat()  # not one that was overtaken by news
        return True


class AgentEnd(End):
    """The agent's end: it opens streams."""

    seen_at = 0.0

    def connect(self) -> None:
        """Open a stream. The last one, if there is one, is given up."""
        self.stream, self.is_up, self.seen_at = self.stream + 1, False, self.world.now
        self.put(Kind.JOIN)

    def beat(self, what: What) -> None:
        """Say that this agent lives; open another stream, if this one seems dead."""
        if self.world.now > max(self.seen_at, self.held_until) + SILENCE_SECONDS:
            self.connect()
        super().beat(what)

    def take(self, packet: Packet) -> None:
        if self.is_over:
            return
        if packet.kind is Kind.REFUSED:
            for _, what in packet.items:
                what()
            return
        if packet.stream != self.stream:
            return  # of a stream that was given up
        match packet.kind:
            case Kind.WELCOME if not self.is_up:
                self.session.resume(packet.heard)
                self.is_up, self.seen_at = True, self.world.now
                self.flush()
            case Kind.CLOSED:
                self.connect()
            case Kind.NEWS if self.is_up:
                self.seen_at = self.world.now
                if not self.hear(packet):
                    self.connect()


class CoordinatorEnd(End):
    """The coordinator's end: it answers."""

    refusal: What | None = None

    def refuse(self, what: What) -> None:
        """End the session. Whenever the agent says something, this is the answer."""
        self.refusal, self.is_over, self.is_up = what, True, False
        self._answer_refused()

    def _answer_refused(self) -> None:
        assert self.refusal is not None
        self.put(Kind.REFUSED, items=((0, self.refusal),))

    def take(self, packet: Packet) -> None:
        if self.is_over:
            self._answer_refused()
        elif packet.kind is Kind.JOIN:
            if packet.stream > self.stream:
                self.session.resume(packet.heard)
                self.stream, self.is_up = packet.stream, True
                self.put(Kind.WELCOME)
                self.flush()
        elif packet.stream == self.stream and self.is_up:
            if not self.hear(packet):
                self.is_up = False
                self.put(Kind.CLOSED)
            elif self.is_up and (packet.items or packet.beat is not None):
                first, items = self.session.take()
                self.put(Kind.NEWS, first=first, items=tuple(items))


@dataclass
class Link:
    """A connection between an agent and its coordinator.

    Attributes:
        out: the agent's end.
        back: the coordinator's.
    """

    world: World
    weather: Weather
    arrive: Callable[[What], None]
    out: AgentEnd = field(init=False)
    back: CoordinatorEnd = field(init=False)

    def __post_init__(self) -> None:
        self.out = AgentEnd(self.world, Line(self.world, self.weather), self.arrive)
        self.back = CoordinatorEnd(self.world, Line(self.world, self.weather), lambda what: what())
        self.out.other, self.back.other = self.back, self.out
        self.out.connect()


def some_weather(world: World, clear_at: float) -> Weather:
    """What a seed says of the network."""
    choose = world.random.choice
    return Weather(choose((0.0, 0.01, 0.1, 0.3)), choose((0.0, 0.05, 0.3)), choose((0.0, 0.02, 0.2)), clear_at)
