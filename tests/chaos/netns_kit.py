"""Machines with a network of their own: network namespaces on a switch that this process plays.

Every frame between them goes through :class:`Network`, which loses what a test wants it to lose: some of them by
chance, or all from one machine to another (and none the other way). So nothing is needed of the kernel but namespaces
and TAP devices.
"""

from __future__ import annotations

import itertools
import os
import random
import select
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
_NAMES = itertools.count()
_FRAME_BYTES = 1 << 16


@dataclass(frozen=True)
class Machine:
    """A namespace.

    Attributes:
        number: its place on the switch.
        name: of the namespace, and of its network device.
        address: its own.
        prefix: in front of a command that is to run there.
        tap: the switch's end of its wire.
    """

    number: int
    name: str
    address: str
    prefix: tuple[str, ...]
    tap: int


class Network:
    """A switch between machines.

    Attributes:
        machines: on the switch.
        loss: which share of all frames is lost.
        cut: pairs of machines (from, to) between which nothing gets through.
        frames: that were sent.
        lost: of these.
    """

    def __init__(self, machines: list[Machine], seed: int) -> None:
        self.machines = machines
        self.loss = 0.0
        self.cut: set[tuple[int, int]] = set()
        self.frames = self.lost = 0
        self._chance = random.Random(seed)
        self._over, self._end = os.pipe()
        self._thread = threading.Thread(target=self._run, name="switch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop."""
        os.close(self._end)
        self._thread.join(60)
        os.close(self._over)

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._over, select.POLLHUP | select.POLLIN)
        by_tap = {machine.tap: machine.number for machine in self.machines}
        for tap in by_tap:
            poll.register(tap, select.POLLIN)
        while True:
            for ready, _ in poll.poll(1000):
                if ready == self._over:
                    return
                with suppress(OSError):  # there is nothing, or nobody
                    self._pass_on(by_tap[ready], os.read(ready, _FRAME_BYTES))

    def _pass_on(self, sender: int, frame: bytes) -> None:
        to = frame[5]  # the last byte of a machine's hardware address is its number; all others are for everybody
        everybody = bool(frame[0] & 1)
        for machine in self.machines:
            if machine.number == sender or not (everybody or machine.number == to):
                continue
            self.frames += 1
            if (sender, machine.number) in self.cut or self._chance.random() < self.loss:
                self.lost += 1
                continue
            with suppress(OSError):
                os.write(machine.tap, frame)


@contextmanager
def network(count: int, *, seed: int = 0, mtu: int = 9000) -> Iterator[Network | str]:
    """So many machines, with addresses in one network; or why they cannot be made. Nothing of them stays."""
    machines: list[Machine] = []
    made: list[str] = []
    why = ""
    try:
        try:
            for number in range(count):
                name = f"gm{os.getpid()}n{next(_NAMES)}"
                _ip("netns", "add", name)
                made.append(name)
                machines.append(_machine(number, name, mtu))
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", b"") or b""
            why = f"network namespaces cannot be made here: {error} {said.decode(errors='replace')}".strip()
        if why or not machines:
            yield why
            return
        switch = Network(machines, seed)
        try:
            yield switch
        finally:
            switch.close()
    finally:
        for machine in machines:
            os.close(machine.tap)
        for name in made:
            _ip("netns", "delete", name)


def _machine(number: int, name: str, mtu: int) -> Machine:
    if fcntl is None:
        raise OSError("this system has no TAP devices")
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI))
        address = f"10.99.0.{number + 1}"
        _ip("link", "set", name, "netns", name)
        for words in (
            ["link", "set", name, "address", f"02:00:00:00:00:{number:02x}", "mtu", str(mtu)],
            ["address", "add", f"{address}/24", "dev", name],
            ["link", "set", name, "up"],
            ["link", "set", "lo", "up"],
        ):
            _ip("-n", name, *words)
    except BaseException:
        os.close(tap)
        raise
    return Machine(number, name, address, ("ip", "netns", "exec", name), tap)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=20)


def leftovers() -> list[str]:
    """Namespaces of this process that are still there."""
    folder = Path("/run/netns")
    return (
        [path.name for path in folder.iterdir() if path.name.startswith(f"gm{os.getpid()}n")] if folder.exists() else []
    )
