"""Blocks of other workers: what arrives is what was made, whatever the way does to it, or an error names the bad."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa
import pytest
from pyarrow import flight
from wire_kit import Cutting, Flipping, Mangle, Proxy, content, make_block, silent, slow

from gristmill.errors import BlockCorrupt, BlockMissing, BlockUnreachable, TaskError
from gristmill.records.columns import encode_values
from gristmill.shuffle import fetch as fetch_module
from gristmill.shuffle import transfer as transfer_module
from gristmill.shuffle.blocks import BlockWriter, read_segment
from gristmill.shuffle.contracts import BlockInfo, BlockSource
from gristmill.shuffle.fetch import fetch_blocks, to_fetch
from gristmill.shuffle.groups import key_kind, make_batch
from gristmill.shuffle.request import Piece, Request
from gristmill.shuffle.serve import BlockServer
from gristmill.shuffle.tickets import TICKET_SECONDS, ticket_of
from gristmill.shuffle.transfer import FetchSettings

JOB, SECRET = "20261120-120000-abcd", "secret"
TICKET = ticket_of(SECRET, JOB, "a-reader", time.time())
QUICK = FetchSettings(call_seconds=1.0, tries=3, backoff_seconds=0.02, grace_seconds=0.1)


class Place:
    """A worker's data directory, with a server."""

    def __init__(self, root: Path, name: str, blocks: int, rows: int) -> None:
        self.name = name
        self.folder = root / name / "jobs" / JOB / "blocks"
        self.folder.mkdir(parents=True)
        self.server = BlockServer([root / name])
        self.server.allow(JOB, SECRET)
        made = [make_block(self.folder / f"{name}-{number}.block", 3, rows) for number in range(blocks)]
        self.blocks = [replace(block, worker=name) for block in made]

    @property
    def source(self) -> BlockSource:
        return BlockSource(self.name, f"127.0.0.1:{self.server.port}", self.name)


@pytest.fixture
def places(tmp_path: Path) -> Iterator[list[Place]]:
    made = [Place(tmp_path, f"w{number}", 4, 2_000) for number in range(3)]
    yield made
    for place in made:
        place.server.close()


def all_blocks(places: list[Place]) -> list[BlockInfo]:
    return [block for four in zip(*(place.blocks for place in places), strict=True) for block in four]


def fetch(blocks: list[BlockInfo], places: list[Place], folder: Path, **changes: Any) -> list[BlockInfo]:
    settings = replace(QUICK, **changes)
    sources = [place.source for place in places]
    return fetch_blocks(blocks, 1, sources, folder / "scratch", job=JOB, ticket=TICKET, settings=settings)


def through(place: Place, mangle: Mangle, folder: Path, **changes: Any) -> tuple[list[BlockInfo] | TaskError, Proxy]:
    settings = replace(QUICK, **changes)
    with Proxy(place.server.port, mangle) as proxy:
        source = replace(place.source, address=proxy.address)
        scratch = folder / "scratch"
        try:
            return fetch_blocks(place.blocks, 1, [source], scratch, job=JOB, ticket=TICKET, settings=settings), proxy
        except TaskError as error:
            return error, proxy


def flip(block: BlockInfo, place: int, bit: int) -> None:
    """Flip a bit of a block's file; done again, it is as it was."""
    with Path(block.path).open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1 << bit]))


def same(fetched: list[BlockInfo], blocks: list[BlockInfo]) -> bool:
    return all(
        content(read_segment(here, 1)) == content(read_segment(there, 1))
        for here, there in zip(fetched, blocks, strict=True)
    )


def test_blocks_of_several_workers_come_in_their_order(places: list[Place], tmp_path: Path) -> None:
    blocks = all_blocks(places)
    fetched = fetch(blocks, places, tmp_path)
    assert same(fetched, blocks)
    assert {Path(block.path).parent for block in fetched} == {tmp_path / "scratch"}
    assert len({block.path for block in fetched}) == len(places), "one file a worker"
    assert [block.segment(1).rows for block in fetched] == [block.segment(1).rows for block in blocks]


def test_a_neighbour_passes_questions_on(places: list[Place], tmp_path: Path) -> None:
    """It is asked for all that others keep, and has none of it itself."""
    asked = check_neighbour(places, tmp_path)
    assert sorted(asked) == [f"far:{place.name}" for place in places], "all blocks of a keeper in one question"


def test_many_blocks_of_one_keeper_are_one_question(tmp_path: Path) -> None:
    far = Place(tmp_path, "far", 100, 20)
    try:
        assert check_neighbour([far], tmp_path) == ["far:far"]
    finally:
        far.server.close()


def test_what_is_too_much_at_a_time_comes_in_smaller_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever passes a question on has as long as the reader waits; what has not come by then is asked for in parts."""
    far, asked = Place(tmp_path, "far", 2, 2_000), list[tuple[int, float]]()
    size = sum(block.segment(1).length for block in far.blocks)
    monkeypatch.setattr(fetch_module, "WHOLE_BYTES", size)
    monkeypatch.setattr(transfer_module, "_LEAST_REQUEST_BYTES", size // 20)

    def pass_on(_address: str, request: Request) -> Iterator[Any]:
        asked.append((sum(piece.length for piece in request.pieces), request.seconds))
        if asked[-1][0] > size // 10:
            raise OSError("it has not come in time")
        return iter(far.server.read(request.to_bytes()))

    try:
        with BlockServer([tmp_path / "neighbour"], pass_on=pass_on) as neighbour:
            neighbour.allow(JOB, SECRET)
            source = BlockSource("far", "far:far", "far", f"127.0.0.1:{neighbour.port}")
            settings = replace(QUICK, tries=4)
            fetched = fetch_blocks(
                far.blocks, 1, [source], tmp_path / "scratch", job=JOB, ticket=TICKET, settings=settings
            )
        assert same(fetched, far.blocks)
    finally:
        far.server.close()
    assert asked[:3] == [(size, 30.0), (size // 4, 60.0), (size // 16, 120.0)]
    assert all(part <= size // 16 and seconds == 30.0 for part, seconds in asked[3:])
    assert sum(part for part, _ in asked[2:]) == size


def check_neighbour(places: list[Place], folder: Path) -> list[str]:
    """All blocks come through a neighbour. Returns who was asked by it, each time."""
    keepers, asked = {f"far:{place.name}": place.server for place in places}, []

    def pass_on(address: str, request: Request) -> Iterator[Any]:
        asked.append(address)
        return iter(keepers[address].read(request.to_bytes()))

    with BlockServer([folder / "neighbour"], pass_on=pass_on) as neighbour:
        neighbour.allow(JOB, SECRET)
        sources = [BlockSource(p.name, f"far:{p.name}", p.name, f"127.0.0.1:{neighbour.port}") for p in places]
        blocks = all_blocks(places)
        fetched = fetch_blocks(blocks, 1, sources, folder / "scratch", job=JOB, ticket=TICKET, settings=QUICK)
    assert same(fetched, blocks)
    return asked


def test_a_small_budget_and_many_calls_make_no_difference(places: list[Place], tmp_path: Path) -> None:
    blocks = all_blocks(places)
    assert same(fetch(blocks, places, tmp_path, budget_bytes=1), blocks)


FETCH = """
import json, resource, sys
from pathlib import Path
from gristmill.shuffle.contracts import BlockInfo, BlockSource, SegmentInfo
from gristmill.shuffle.fetch import fetch_blocks
from gristmill.shuffle.transfer import FetchSettings

job, ticket, scratch, sources, blocks = json.loads(sys.stdin.read())
places = [BlockSource(name, address, name) for name, address in sources]
infos = [BlockInfo(path, tuple(SegmentInfo(*one) for one in segments), worker) for path, segments, worker in blocks]
kib = []
for partition in (1, 0):  # a small one first, for all that is loaded and opened by then
    fetch_blocks(infos, partition, places, Path(scratch) / str(partition), job=job, ticket=ticket,
                 settings=FetchSettings(budget_bytes=4 << 20))
    kib.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print(kib[1] - kib[0])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="tells memory by Linux's units")
def test_no_more_is_in_flight_than_the_budget_allows(places: list[Place], tmp_path: Path) -> None:
    piece = random.Random(1).randbytes(1 << 20)
    blocks = []
    for place in places:
        with BlockWriter(place.folder / "large.block", 2) as writer:
            for partition, batches in ((0, 16), (1, 1)):
                for _ in range(batches):
                    writer.write(partition, make_batch(key_kind(["k"]), ["k"], ["k"], [2], encode_values([piece] * 2)))
            made = writer.finish()
        blocks.append((made.path, made.segments, place.name))
    sources = [(place.name, place.source.address) for place in places]
    given = json.dumps((JOB, TICKET, str(tmp_path), sources, blocks))
    done = subprocess.run([sys.executable, "-c", FETCH], input=given, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    sizes = [path.stat().st_size for path in (tmp_path / "0").iterdir()]
    assert len(sizes) == 3 and min(sizes) > 32 << 20
    assert int(done.stdout) < 32 << 10, f"{int(done.stdout)} KiB for {sum(sizes) >> 10} KiB"


def test_all_workers_are_read_from_at_once(places: list[Place], tmp_path: Path) -> None:
    """None of them is heard before all of them were asked, so whoever asks one after another comes to no end."""
    together = threading.Barrier(len(places))

    def meet() -> Mangle:
        met: list[int] = []

        def wait(data: bytes) -> bytes | None:
            try:
                met.append(0 if met else together.wait(15))
            except threading.BrokenBarrierError:
                return None
            return data

        return wait

    with ExitStack() as stack:
        proxies = [stack.enter_context(Proxy(place.server.port, meet())) for place in places]
        sources = [replace(place.source, address=way.address) for place, way in zip(places, proxies, strict=True)]
        blocks = all_blocks(places)
        settings = replace(QUICK, call_seconds=20.0, tries=1)
        fetched = fetch_blocks(blocks, 1, sources, tmp_path / "scratch", job=JOB, ticket=TICKET, settings=settings)
        assert same(fetched, blocks)
    assert not together.broken


def test_what_need_not_be_fetched(places: list[Place], tmp_path: Path) -> None:
    sources = [place.source for place in places]
    blocks = [
        places[0].blocks[0],  # of a worker on this machine
        replace(places[0].blocks[1], path=str(tmp_path / "nowhere")),  # likewise, but the file is not seen
        places[1].blocks[0],
        replace(places[1].blocks[1], worker=""),
        BlockInfo("", ()),
        BlockInfo("s3://bucket/block", places[0].blocks[0].segments),
    ]
    assert to_fetch(blocks, sources, "w0") == [1, 2, 5]
    assert to_fetch(blocks, sources, "") == [0, 1, 2, 5]


def test_empty_segments_ask_nobody(tmp_path: Path) -> None:
    blocks = [BlockInfo("", (), "w0"), BlockInfo("", ())]
    fetched = fetch_blocks(blocks, 0, [], tmp_path / "scratch", job=JOB, ticket=TICKET)
    assert [block.segment(0).length for block in fetched] == [0, 0]
    assert not (tmp_path / "scratch").exists()


@pytest.mark.parametrize("flips", [40, pytest.param(1000, marks=pytest.mark.soak)])
def test_every_bit_flipped_on_the_way_is_noticed(
    flips: int, places: list[Place], tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """In headers, in what says how the bytes are laid out, in the bytes: what arrives in the end is what was sent."""
    expected = [content(read_segment(block, 1)) for block in places[0].blocks]
    done = seed = 0
    while done < flips:
        seed += 1
        flipping = Flipping(seed, times=1 + seed % 4, every=(20_000, 2_000, 200)[seed % 3])
        fetched, _ = through(places[0], flipping, tmp_path, tries=8, faults=8, backoff_seconds=0.01)
        assert not isinstance(fetched, TaskError), fetched
        assert [content(read_segment(block, 1)) for block in fetched] == expected
        assert flipping.flipped
        done += flipping.flipped
    record_property("note", f"{done:,} bits flipped between a block server and its reader: each was noticed")


@pytest.mark.parametrize("flips", [40, pytest.param(1000, marks=pytest.mark.soak)])
def test_every_bit_flipped_where_it_lies_is_noticed(
    flips: int, places: list[Place], tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    chance = random.Random(7)
    for _ in range(flips):
        block = chance.choice(places[0].blocks)
        segment = block.segment(1)
        place, bit = segment.offset + chance.randrange(segment.length), chance.randrange(8)
        flip(block, place, bit)
        with pytest.raises(BlockCorrupt) as caught:
            fetch(places[0].blocks, places, tmp_path, grace_seconds=1.0)
        assert caught.value.report.details["blocks"] == block.path
        flip(block, place, bit)
    assert same(fetch(places[0].blocks, places, tmp_path), places[0].blocks)
    record_property("note", f"{flips:,} bits flipped in blocks on the disk: each was noticed")


def test_bits_always_flipped_end_as_an_error_with_names(places: list[Place], tmp_path: Path) -> None:
    found, _ = through(places[0], Flipping(1, times=10**9, every=5_000), tmp_path)
    assert isinstance(found, (BlockCorrupt, BlockUnreachable))
    assert set(str(found.report.details["blocks"]).split("\n")) <= {block.path for block in places[0].blocks}


@pytest.mark.parametrize("seed", range(4))
def test_connections_that_break(seed: int, places: list[Place], tmp_path: Path) -> None:
    fetched, proxy = through(places[0], Cutting(seed, times=3), tmp_path, tries=5)
    assert not isinstance(fetched, TaskError), fetched
    assert same(fetched, places[0].blocks)
    assert proxy.connections >= 3


def test_a_slow_way_takes_longer_than_a_call_may(places: list[Place], tmp_path: Path) -> None:
    size = sum(block.segment(1).length for block in places[0].blocks)
    fetched, proxy = through(places[0], slow(2 * size), tmp_path, call_seconds=0.2)
    assert not isinstance(fetched, TaskError), fetched
    assert same(fetched, places[0].blocks)
    assert proxy.connections > 1


def test_a_worker_that_says_nothing(places: list[Place], tmp_path: Path) -> None:
    began = time.monotonic()
    found, _ = through(places[0], silent, tmp_path, call_seconds=0.2)
    assert isinstance(found, BlockUnreachable)
    assert time.monotonic() - began < 30
    assert set(str(found.report.details["blocks"]).split("\n")) == {block.path for block in places[0].blocks}
    assert "w0" in str(found)


def test_a_worker_that_is_gone_takes_all_its_blocks_along(places: list[Place], tmp_path: Path) -> None:
    places[1].server.close()
    with pytest.raises(BlockUnreachable) as caught:
        fetch(all_blocks(places), places, tmp_path)
    assert set(str(caught.value.report.details["blocks"]).split("\n")) == {block.path for block in places[1].blocks}


def test_a_worker_without_an_address(places: list[Place], tmp_path: Path) -> None:
    sources = [places[0].source, BlockSource("w1", "", "")]
    with pytest.raises(BlockUnreachable) as caught:
        fetch_blocks(all_blocks(places[:2]), 1, sources, tmp_path / "s", job=JOB, ticket=TICKET, settings=QUICK)
    assert set(str(caught.value.report.details["blocks"]).split("\n")) == {block.path for block in places[1].blocks}


def test_all_bad_blocks_are_named(places: list[Place], tmp_path: Path) -> None:
    missing, flipped, cut = places[0].blocks[2], places[1].blocks[0], places[2].blocks[3]
    Path(missing.path).unlink()
    flip(flipped, flipped.segment(1).offset + 100, 2)
    os.truncate(cut.path, cut.segment(1).offset + 10)
    with pytest.raises(BlockCorrupt) as caught:
        fetch(all_blocks(places), places, tmp_path, grace_seconds=5.0)
    named = str(caught.value.report.details["blocks"]).split("\n")
    assert set(named) == {missing.path, flipped.path, cut.path}


def test_a_missing_block_has_its_own_name(places: list[Place], tmp_path: Path) -> None:
    Path(places[0].blocks[0].path).unlink()
    with pytest.raises(BlockMissing, match="is gone"):
        fetch(all_blocks(places), places, tmp_path)


def test_a_full_scratch_disk_is_not_the_way(places: list[Place], tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    (scratch / "fetched-00000").symlink_to("/dev/full")
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with pytest.raises(OSError) as caught:
        fetch(all_blocks(places), places, tmp_path)
    assert caught.value.filename == str(scratch / "fetched-00000")


# What the server refuses.


def ask(place: Place, request: Request) -> list[tuple[int, bytes, str | None]]:
    with flight.FlightClient(f"grpc://127.0.0.1:{place.server.port}") as client:
        reader = client.do_get(flight.Ticket(request.to_bytes()), flight.FlightCallOptions(timeout=60))
        rows = pa.Table.from_batches([chunk.data for chunk in reader]).to_pylist()
    return [(row["piece"], row["data"], row["error"]) for row in rows]


@pytest.mark.parametrize(
    ("job", "ticket"),
    [
        (JOB, "wrong"),
        (JOB, ""),
        (JOB, SECRET),
        (JOB, ticket_of("another", JOB, "a-reader", time.time())),
        (JOB, ticket_of(SECRET, JOB, "a-reader", time.time() - TICKET_SECONDS - 1)),
        (JOB, TICKET.replace("a-reader", "b-reader")),
        (JOB, TICKET.replace(".", ".9", 1)),
        ("another-job", TICKET),
        ("", ""),
        ("no-secret", ""),
        ("no-secret", ticket_of("", "no-secret", "a-reader", time.time())),
    ],
    ids=(
        "word",
        "nothing",
        "secret",
        "another secret",
        "late",
        "another reader",
        "another time",
        "another job",
        "no job",
        "no secret",
        "a ticket of no secret",
    ),
)
def test_only_a_ticket_of_the_job_opens_its_blocks(job: str, ticket: str, places: list[Place]) -> None:
    places[0].server.allow("no-secret", "")
    block = places[0].blocks[0]
    with pytest.raises(flight.FlightUnauthenticatedError):
        ask(places[0], Request(job, ticket, (Piece(block.path, 0, 10),)))
    places[0].server.forget(JOB)
    with pytest.raises(flight.FlightUnauthenticatedError):
        ask(places[0], Request(JOB, TICKET, (Piece(block.path, 0, 10),)))


FLIGHT_CALLS: list[Callable[[Any, Any], object]] = [
    lambda client, options: client.do_get(flight.Ticket(b"{}"), options).read_all(),
    lambda client, options: list(client.list_flights(b"", options)),
    lambda client, options: client.get_flight_info(flight.FlightDescriptor.for_path("jobs"), options),
    lambda client, options: client.get_schema(flight.FlightDescriptor.for_path("jobs"), options),
    lambda client, options: list(client.do_action(flight.Action("stop", b""), options)),
    lambda client, options: client.list_actions(options),
    lambda client, options: client.do_put(flight.FlightDescriptor.for_path("jobs"), pa.schema([]), options)[0].close(),
    lambda client, options: client.do_exchange(flight.FlightDescriptor.for_path("jobs"), options)[1].read_all(),
    lambda client, options: client.authenticate_basic_token("user", "token", options),
]


@pytest.mark.parametrize("call", FLIGHT_CALLS)
def test_all_else_that_flight_can_do_is_refused(call: Callable[[Any, Any], object], places: list[Place]) -> None:
    with flight.FlightClient(f"grpc://127.0.0.1:{places[0].server.port}") as client:
        with pytest.raises((flight.FlightError, OSError), match=r"nothing else|not a request"):
            call(client, flight.FlightCallOptions(timeout=60))


FLIGHT_METHODS = ("Handshake", "ListFlights", "GetFlightInfo", "PollFlightInfo", "GetSchema", "DoGet", "DoPut",
                  "DoExchange", "DoAction", "ListActions", "NoSuchMethod")  # fmt: skip


@pytest.mark.parametrize("method", FLIGHT_METHODS)
def test_whatever_is_said_to_any_method_is_refused(method: str, places: list[Place]) -> None:
    """All of Flight.proto, without any of its client's kindness: also what our own library does not call."""
    with grpc.insecure_channel(f"127.0.0.1:{places[0].server.port}") as channel:
        call = channel.stream_stream(f"/arrow.flight.protocol.FlightService/{method}")
        for said in (b"", b"\x0a\x02{}", b"\xff"):
            with pytest.raises(grpc.RpcError) as failed:
                list(call(iter([said]), timeout=60))
            assert failed.value.code() is not grpc.StatusCode.DEADLINE_EXCEEDED


def test_files_outside_of_the_jobs_blocks_are_not_there(places: list[Place], tmp_path: Path) -> None:
    place = places[0]
    secret = tmp_path / "w0" / "token"
    secret.write_text("do not tell")
    other = place.folder.parent.parent / "other-job" / "blocks"
    other.mkdir(parents=True)
    (other / "o.block").write_text("do not tell")
    (place.folder / "link.block").symlink_to(secret)
    (place.folder / "deeper").mkdir()
    (place.folder / "deeper" / "d.block").write_text("do not tell")
    os.mkfifo(place.folder / "pipe.block")
    asked = [
        secret,
        other / "o.block",
        place.folder / "link.block",
        place.folder / ".." / ".." / ".." / "token",
        place.folder / "deeper" / "d.block",
        place.folder / "pipe.block",
        place.folder,
        Path("/etc/passwd"),
        Path("relative.block"),
    ]
    answer = ask(place, Request(JOB, TICKET, tuple(Piece(str(path), 0, 5) for path in asked)))
    assert answer == [(number, b"", "gone") for number in range(len(asked))]


def test_blocks_that_should_be_there_are_told_of(places: list[Place], tmp_path: Path) -> None:
    told: list[str] = []
    place = places[0]
    place.server.on_trouble = told.append
    gone = place.blocks[0].path
    Path(gone).unlink()
    ask(place, Request(JOB, TICKET, (Piece(gone, 0, 5), Piece("/etc/passwd", 0, 5), Piece(place.blocks[1].path, 0, 5))))
    assert told == [gone]


def test_a_link_to_the_data_directory_is_followed(tmp_path: Path) -> None:
    place = Place(tmp_path, "w0", 1, 50)
    place.server.close()
    (tmp_path / "link").symlink_to(tmp_path / "w0")
    with BlockServer([tmp_path / "link"]) as server:
        server.allow(JOB, SECRET)
        block = place.blocks[0]
        block = replace(block, path=block.path.replace("/w0/", "/link/"))
        source = BlockSource("w0", f"127.0.0.1:{server.port}", "m")
        fetched = fetch_blocks([block], 1, [source], tmp_path / "s", job=JOB, ticket=TICKET, settings=QUICK)
        assert same(fetched, place.blocks)


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[]", b"\xff", b'{"job":"j","ticket":"t","pieces":[[1]],"batch_bytes":1}'],
)
def test_what_is_no_request_is_refused(data: bytes, places: list[Place]) -> None:
    with flight.FlightClient(f"grpc://127.0.0.1:{places[0].server.port}") as client:
        with pytest.raises(flight.FlightServerError):
            list(client.do_get(flight.Ticket(data), flight.FlightCallOptions(timeout=60)))


def test_impossible_pieces_are_refused() -> None:
    for piece in (Piece("p", -1, 5), Piece("p", 0, -5)):
        with pytest.raises(ValueError, match="impossible"):
            Request.from_bytes(Request("j", "t", (piece,)).to_bytes())
    with pytest.raises(ValueError, match="impossible"):
        Request.from_bytes(Request("j", "t", (Piece("p", 0, 1),) * 5000).to_bytes())


SERVE = """
import sys
from pathlib import Path
from gristmill.shuffle.serve import BlockServer
server = BlockServer([Path(sys.argv[1])])
server.allow(sys.argv[2], sys.argv[3])
print(server.port, flush=True)
sys.stdin.read()
"""


def test_a_server_that_stops_in_the_middle_and_goes_on(tmp_path: Path) -> None:
    """What came before is kept; the process sleeps for longer than a call may take, then wakes."""
    place = Place(tmp_path, "w0", 4, 2_000)
    place.server.close()
    command = [sys.executable, "-c", SERVE, str(tmp_path / "w0"), JOB, SECRET]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        source = BlockSource("w0", f"127.0.0.1:{int(process.stdout.readline())}", "m")
        process.send_signal(signal.SIGSTOP)
        waker = subprocess.Popen(["sh", "-c", f"sleep 0.6; kill -CONT {process.pid}"])
        settings = replace(QUICK, call_seconds=0.3, tries=10)  # whenever it wakes
        try:
            fetched = fetch_blocks(place.blocks, 1, [source], tmp_path / "s", job=JOB, ticket=TICKET, settings=settings)
        finally:
            waker.wait(60)
            process.kill()
    assert same(fetched, place.blocks)


def test_compact_json(places: list[Place]) -> None:
    block = places[0].blocks[0]
    assert BlockInfo.from_json(json.loads(json.dumps(block.to_json()))) == block
