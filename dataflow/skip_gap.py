"""Going on behind a gap: for an archive whose capture stopped at something that it can't take in, or whose binlog is gone.

Promises: only behind a recorded gap at the archive's end, only on the same binlog (the last captured transaction is proved
where its file is still there), only forward. The gap gets its end in the log and stays there; nothing before it can serve a
target after it.
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import replace

from dataflow.framer import Diverged, Framer
from dataflow.resume import Begin, StreamStart, diverged, first_checkpoint, stream_start
from dataflow.scan import replica_id
from dataflow.stream import EventStream
from recovery.archive.actions import Checkpoint, Gap
from recovery.archive.state import ArchiveState
from recovery.config import ServerSettings
from recovery.errors import BinlogPurged, ConfigError, SourceUnreachable
from recovery.gtid import binlog_order, parse_gtid_set
from recovery.source import Connection, ServerInfo

PROOF_S = 60


def behind_gap(
    server: ServerSettings, connection: Connection, info: ServerInfo, state: ArchiveState, begin: Begin, now_us: int
) -> tuple[Gap, Checkpoint]:
    """The gap with its end and the checkpoint to go on from. Raises ConfigError, SourceDiverged."""
    at = state.checkpoint
    stopped = [g for g in state.holes if g.to_file is None and g.after_seq == state.last_seq]
    if at is None or not stopped:
        raise ConfigError(
            f"the archive of `{server.name}` doesn't end in a gap, so there is nothing to skip",
            hint="Leave out --skip-gap: capture goes on where the archive ends.",
        )
    try:
        start = stream_start(connection, info, at)
    except BinlogPurged:
        pass  # the very reason for skipping; GTIDs and positions still have to fit
    else:
        _prove(server, info, at, start)
    found = first_checkpoint(server, connection, info, begin, now_us)
    if binlog_order(found.file, found.position) < binlog_order(at.file, at.position):
        raise ConfigError(
            f"{found.file}:{found.position} lies before {at.file}:{at.position}, where the archive ends",
            hint="Choose a place behind the gap, or none for the source's current position.",
        )
    gtids = parse_gtid_set(found.gtid_set, info.flavor).union(parse_gtid_set(at.gtid_set, info.flavor))  # type: ignore[arg-type]
    checkpoint = replace(
        found,
        seq=at.seq,
        gtid_set=str(gtids),
        cut_at_us=at.cut_at_us,
        covered_to_us=max(at.covered_to_us, found.covered_to_us),
    )
    gap = Gap(
        at.seq,
        at.file,
        at.position,
        found.file,
        found.position,
        now_us,
        stopped[-1].reason,
        lineage=len(state.failovers),
    )
    return gap, checkpoint


def _prove(server: ServerSettings, info: ServerInfo, at: Checkpoint, start: StreamStart) -> None:
    """Read the last captured transaction and the head of the file again. Raises SourceDiverged if one is another."""
    if start.expect is None and at.file_begun_at_us is None:
        return
    number = replica_id(server, info, scanning=True)
    with closing(EventStream(server, info.flavor, number, start.file, start.position)) as stream:
        framer = Framer(
            info.flavor,
            at,
            file=start.file,
            position=start.position,
            expect=start.expect,
        )
        deadline = time.monotonic() + PROOF_S
        while time.monotonic() < deadline:
            for data, arrived_at_us in stream.take(1 << 20):
                framer.feed(data, arrived_at_us)
            if isinstance(framer.failure, Diverged):
                raise diverged(str(framer.failure)) from framer.failure
            if framer.proved:
                return
            if framer.failure is not None:
                raise framer.failure
            if framer.ending is not None:
                raise stream.ended(framer.ending, began=True)
            time.sleep(0.005)
    raise SourceUnreachable("the source doesn't send its binlog", hint="Try again.")
