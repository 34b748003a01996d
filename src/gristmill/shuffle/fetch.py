"""Makes the blocks of a task readable here, wherever they lie.

A block whose file this machine sees stays where it is. The segments of all others are brought into files of the
attempt's own folder, from all keepers at once, one thread each; what is in flight together is bounded. After that they
are blocks like any other: mapped into memory, checked once more. The disk is the place for what does not fit into
memory, and as long as it fits the system keeps it there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from gristmill.config import MIB
from gristmill.errors import BlockCorrupt, BlockMissing, BlockUnreachable, FailureReport, TaskError
from gristmill.shuffle.contracts import EMPTY_SEGMENT, BlockInfo, BlockSource, SegmentInfo
from gristmill.shuffle.request import BATCH_BYTES, Request
from gristmill.shuffle.shelf import located
from gristmill.shuffle.store import is_uri, read_pieces
from gristmill.shuffle.transfer import SMALL_BATCH_BYTES, Answer, BadBlocks, Call, FetchSettings, Transfer, Vain, Wanted

TLS_SCHEME = "grpc+tls://"
"""How the address of a worker begins that serves by TLS."""

SERVER_CA, PEERS_CA = "GRISTMILL_TLS_CA", "GRISTMILL_TLS_PEERS_CA"
"""Variables that name files with the CAs of the server; and of other workers, if these are others."""

CALLS: dict[str, Callable[[str], Call]] = {}
"""By how addresses begin that are no Flight servers: how to ask there. A fleet of such workers puts its own in."""

WHOLE_BYTES, WHOLE_SECONDS = 32 * MIB, 30.0
"""Of a call whose answer comes in one piece, or not at all."""

_MAX_THREADS = 64
_COPIES = 3  # of a batch: sent, received, written
_NAMED = 10  # blocks in a message


def to_fetch(blocks: Sequence[BlockInfo], sources: Iterable[BlockSource], machine: str) -> list[int]:
    """The places of the blocks that have to be brought here: others keep them, and this machine does not see the file.

    Args:
        blocks: what a task reads.
        sources: where workers are.
        machine: what this one sees.
    """
    neighbours = {source.worker for source in sources if machine and source.machine == machine}

    def is_here(block: BlockInfo) -> bool:
        if not block.path:
            return True  # it has no rows, hence no file
        if is_uri(block.path):
            return False
        return not block.worker or (block.worker in neighbours and os.access(located(block.path), os.R_OK))

    return [place for place, block in enumerate(blocks) if not is_here(block)]


def fetch_blocks(
    blocks: Sequence[BlockInfo],
    partition: int,
    sources: Iterable[BlockSource],
    scratch: Path,
    *,
    job: str,
    ticket: str,
    settings: FetchSettings | None = None,
    peers_ca: str = "",
) -> list[BlockInfo]:
    """The same blocks in the same order, in files below ``scratch``, as far as one partition goes.

    Args:
        blocks: what is to be brought here.
        partition: the segment that is wanted of each.
        sources: where the workers are that keep them.
        scratch: a folder for the files, made if need be.
        job: whose blocks they are.
        ticket: opens them.
        settings: how much in flight, how patient.
        peers_ca: a file with the CAs of workers that serve by TLS; empty: as the environment says.

    Raises:
        BlockCorrupt: a block is damaged where it lies. This error and the next two name every block that was found bad.
        BlockMissing: a worker does not have a block.
        BlockUnreachable: a worker does not answer.
        OSError: a file below ``scratch`` cannot be written; it is named.
    """
    settings = settings or FetchSettings()
    at = {source.worker: source for source in sources}
    keepers: dict[str, list[int]] = {}
    for place, block in enumerate(blocks):
        if block.segment(partition).length:
            keepers.setdefault(block.worker, []).append(place)
    fetched = [BlockInfo("", ()) for _ in blocks]
    if not keepers:
        return fetched
    threads = min(len(keepers), _MAX_THREADS)
    batch_bytes = max(SMALL_BATCH_BYTES, min(BATCH_BYTES, settings.budget_bytes // (_COPIES * threads)))
    template, bad = Request(job, ticket, (), batch_bytes), BadBlocks()
    scratch.mkdir(parents=True, exist_ok=True)
    transfers = []
    for number, (worker, places) in enumerate(keepers.items()):
        path, target, wanted = scratch / f"fetched-{number:05d}", 0, []
        for place in places:
            segment = blocks[place].segment(partition)
            wanted.append(Wanted(blocks[place], segment, target))
            here = SegmentInfo(target, segment.length, segment.rows, segment.crc32)
            fetched[place] = BlockInfo(str(path), (*[EMPTY_SEGMENT] * partition, here))
            target += segment.length
        source = at.get(worker, BlockSource(worker, "", ""))
        keeper, call = _keeper(source, batch_bytes, peers_ca)
        patience = settings if source.address or not worker else replace(settings, tries=1)
        if source.via or source.address.startswith(tuple(CALLS)):
            patience = replace(patience, request_bytes=WHOLE_BYTES, call_seconds=WHOLE_SECONDS)
        asked = replace(template, keeper=source.address) if source.via else template
        transfers.append(Transfer(keeper, path, wanted, call, asked, patience, bad))
    with ThreadPoolExecutor(threads, "gristmill-fetch") as pool:
        for ended in [pool.submit(transfer.run) for transfer in transfers]:
            ended.result()
    if error := _error(bad):
        raise error
    return fetched


def _error(bad: BadBlocks) -> TaskError | None:
    """One error that names all blocks that cannot be had."""
    kinds = ((BlockCorrupt, bad.corrupt), (BlockMissing, bad.missing), (BlockUnreachable, bad.unreachable))
    found = [(kind, group) for kind, group in kinds if group]
    if not found:
        return None
    kind, first = found[0]
    paths = [path for _, group in found for path in group]
    message = next(iter(first.values()))
    if len(paths) > 1:
        more = ", …" if len(paths) > _NAMED else ""
        message += f" In all, {len(paths)} blocks cannot be read: {', '.join(paths[:_NAMED])}{more}"
    details: dict[str, int | float | str] = {"block": paths[0], "blocks": "\n".join(paths)}
    return kind(FailureReport(error=kind.__name__, message=message, details=details))


def _keeper(source: BlockSource, batch_bytes: int, peers_ca: str) -> tuple[str, Call]:
    """Who keeps some blocks, for people, and how to ask."""
    worker, address = source.worker, source.address
    if not worker:
        return "the shared storage", read_pieces
    if not address:
        return f"Worker {worker}", _ask_nobody
    if not source.via:
        for scheme, call_of in CALLS.items():
            if address.startswith(scheme):
                return f"Worker {worker}", call_of(address)
    return f"Worker {worker} at {address}", partial(_ask_worker, source.via or address, batch_bytes, peers_ca)


def _ask_nobody(_request: Request, _seconds: float) -> Answer:
    raise Vain("it is not there any more")
    yield  # it is a generator


def _believed(address: str, peers_ca: str) -> tuple[str, dict[str, Any]]:
    """Where a worker is, and how it is to be known there.

    Args:
        address: ``HOST:PORT``, or ``grpc+tls://HOST:PORT#NAME`` with the name that its certificate is for.
        peers_ca: see :func:`fetch_blocks`.

    Raises:
        OSError: the CAs cannot be read.
    """
    if not address.startswith(TLS_SCHEME):
        return f"grpc://{address}", {}
    where, _, name = address.partition("#")
    ca = peers_ca or os.environ.get(PEERS_CA) or os.environ.get(SERVER_CA)
    roots = {"tls_root_certs": Path(ca).read_bytes()} if ca else {}
    return where, {"override_hostname": name, **roots}


def _ask_worker(address: str, batch_bytes: int, peers_ca: str, request: Request, seconds: float) -> Answer:
    """Ask a worker's block server. Each call has a connection of its own, so that a bad one is not used again."""
    import pyarrow as pa
    from pyarrow import flight

    from gristmill.shuffle.request import answer_schema

    options: list[tuple[str, Any]] = [
        ("grpc.enable_http_proxy", 0),  # workers are near, whatever the environment says of the world
        ("grpc.use_local_subchannel_pool", 1),  # a new client means a new connection
        ("grpc.enable_retries", 0),  # gRPC's own: with them a connection that breaks may end the process (SIGSEGV)
        ("grpc.http2.lookahead_bytes", 2 * batch_bytes),
    ]
    schema = answer_schema()
    try:
        where, known = _believed(address, peers_ca)
        with flight.FlightClient(where, generic_options=options, **known) as client:
            reader = client.do_get(flight.Ticket(request.to_bytes()), flight.FlightCallOptions(timeout=seconds))
            try:
                for chunk in reader:
                    batch = chunk.data
                    batch.validate(full=True)  # damage on the way must not lead outside of its buffers
                    if not batch.schema.equals(schema):
                        raise Vain("it sends what makes no sense")
                    yield from rows_of(batch)
            finally:
                reader.cancel()
    except (flight.FlightError, pa.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
        raise Vain(str(error).partition("\n")[0].partition(". gRPC client debug")[0]) from error


def rows_of(batch: Any) -> Answer:
    """The rows of a batch of an answer."""
    places, errors = batch.column(0).to_pylist(), batch.column(2).to_pylist()
    _, offsets, data = batch.column(1).buffers()
    ends = memoryview(offsets).cast("q")
    view = memoryview(data) if data is not None else memoryview(b"")
    for row, place in enumerate(places):
        yield -1 if place is None else place, view[ends[row] : ends[row + 1]], errors[row]
