"""The capture dataflow: binlog in, committed change segments out.

`rowback capture` runs it (dataflow/run.py), and so does `python -m bytewax.run 'dataflow.capture:flow()'` with the settings
found as everywhere (ROWBACK_CONFIG, ROWBACK_SERVER). No recovery store: a restart resumes from the archive.

Several servers are partitions of one dataflow, dealt out to its workers in the order of their names. One that stops for
good ends alone; the process ends when all have, with the first error's exit status.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial

import bytewax.operators as op
from bytewax.dataflow import Dataflow

from dataflow import drain
from dataflow.allocation import keep_memory
from dataflow.batches import ChangeBatch, EventBatch, Stop
from dataflow.decode import Decoder
from dataflow.decoders import Dictionary
from dataflow.health import Health
from dataflow.lifecycle import Capture
from dataflow.live_schema import definitions_of
from dataflow.metrics import Target
from dataflow.resume import Begin
from dataflow.sink import Archive, SegmentSink
from dataflow.source import BinlogSource
from dataflow.window import Limits, WindowLogic
from recovery.config import ServerSettings
from recovery.context import Context, open_context
from recovery.errors import ConfigError, SourceError
from recovery.failpoint import failpoint
from recovery.schema import Table
from recovery.source import connect, fetch
from recovery.source_tables import read_tables
from recovery.spooled import spool_folder


@dataclass(frozen=True)
class Options:
    """What a run of capture may be told. servers: their names; empty for the only one. window_seconds: None for the
    servers' settings."""

    config: str | None = None
    servers: tuple[str, ...] = ()
    begin: Begin = field(default_factory=Begin)
    until_caught_up: bool = False
    window_seconds: float | None = None


def flow() -> Dataflow:
    """For `bytewax.run`: the servers of ROWBACK_SERVER (comma-separated). An error of any of them ends all."""
    names = filter(None, os.environ.get("ROWBACK_SERVER", "").split(","))
    return build(Options(servers=tuple(names)), raises=True)[0]


def build(options: Options, *, raises: bool = False) -> tuple[Dataflow, Health, dict[str, Target]]:
    """The dataflow of the configured servers, a partition each, what it tells about them, and where metrics ask. Unless
    `raises`, an error of a server isn't raised but stands in its health. Reads the settings; connects when it runs. Raises
    ConfigError."""
    drain.install()
    keep_memory()
    contexts = [open_context(options.config, name) for name in options.servers or (None,)]
    by_name = {context.server.name: context for context in contexts}
    health = Health(by_name, raises=raises)
    archives = {name: partial(_archive, c) for name, c in by_name.items()}
    captures = {
        name: Capture(
            context.source,
            archives[name],
            options.begin,
            options.until_caught_up,
            partial(health.of, name),
            keeps_trying=len(by_name) > 1 and not options.until_caught_up,
        )
        for name, context in by_name.items()
    }
    limits = {name: _limits(options, context.server) for name, context in by_name.items()}

    dataflow = Dataflow("capture")
    events = op.input("binlog", dataflow, BinlogSource(captures))
    # ("shop", EventBatch(transactions=(Transaction(seq=1, rows=[...]), ...)))
    changes = op.flat_map("decode", events, Decode({name: partial(_dictionary, c) for name, c in by_name.items()}))
    # ("shop", ChangeBatch(changes=((Table("shop.orders"), RecordBatch), ...)))
    windows = op.stateful_batch("window", changes, lambda _: WindowLogic(limits))
    # ("shop", Window(before=Checkpoint(seq=0), after=Checkpoint(seq=940), ...))
    memory = {name: context.server.memory_bytes // 2 for name, context in by_name.items()}
    kept = {name: partial(_binlog_kept_s, context) for name, context in by_name.items()}
    op.output("archive", windows, SegmentSink(archives, health, memory, kept))
    return dataflow, health, {name: Target(c.source, c.log) for name, c in by_name.items()}


def _archive(context: Context) -> Archive:
    folder = spool_folder(context.server.spool_folder, context.store.url, context.archive.tenant, context.server.name)
    return Archive(context.store, context.layout, context.log, folder, context.server.spool_bytes)


def _binlog_kept_s(context: Context) -> float | None:
    """For how long the source keeps its binlog; None for ever or not known. MariaDB has days, or seconds since 10.6."""
    try:
        with closing(connect(context.source())) as connection:
            names = "'binlog_expire_logs_seconds', 'expire_logs_days'"
            found = {
                str(name): float(value)
                for name, value in fetch(connection, f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})")
            }
    except (SourceError, ConfigError):
        return None
    return found.get("binlog_expire_logs_seconds") or found.get("expire_logs_days", 0) * 86_400 or None


def _limits(options: Options, server: ServerSettings) -> Limits:
    """Of the memory a quarter is for the open window, a half for what is on its way, the rest for what encoding makes. A
    window's age that is asked for on the command line is not stretched."""
    return Limits(
        options.window_seconds or server.window_seconds,
        server.window_rows,
        server.window_bytes,
        options.window_seconds or server.window_max_seconds,
        server.memory_bytes // 4,
    )


class Decode:
    """The decode step's function; opens each server's dictionary when its first batch comes."""

    def __init__(self, dictionaries: dict[str, Callable[[], Dictionary]]) -> None:
        self._dictionaries = dictionaries
        self._decoders: dict[str, Decoder] = {}

    def __call__(self, item: tuple[str, EventBatch | Stop]) -> list[tuple[str, ChangeBatch | Stop]]:
        name, batch = item
        if isinstance(batch, Stop):
            self._decoders.pop(name, None)  # what may follow is a new generation, from the archive's end on
            return [(name, batch)]
        if name not in self._decoders:
            self._decoders[name] = Decoder(self._dictionaries[name]())
        decoded = [(name, changes) for changes in self._decoders[name].decode(batch)]
        failpoint("decode.batch")
        return decoded


def _dictionary(context: Context) -> Dictionary:
    server = context.source()
    return Dictionary(
        generated=partial(_generated, server),
        wants=context.server.wants,
        definitions=partial(definitions_of, context.log.read, server),
    )


def _generated(server: ServerSettings, tables: Sequence[Table]) -> dict[tuple[str, str], frozenset[str]] | None:
    """The generated columns that the live tables have now, of those that still look as the binlog shows them."""
    known = {(t.db, t.name): t for t in tables}
    try:
        with closing(connect(server)) as connection:
            found = read_tables(connection, list(known))
    except SourceError:
        return None
    return {
        (t.db, t.name): frozenset(c.name for c in t.columns if c.generated)
        for t in found
        if t.storage == known[t.db, t.name].storage
    }
