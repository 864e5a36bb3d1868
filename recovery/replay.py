"""Statements that can't be computed, replayed on the scratch server.

The statement's tables are restored to just before it and loaded there, it is run under the settings that it ran under on the
source, and what it left is read back as a snapshot that only this process sees: planning then takes it for any other.
Promises: nothing is written to the archive or the source; what recovery/replayable.py isn't sure of, another kind of server,
a statement that fails there: all are refused with the statement.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from recovery import tiers
from recovery.archive.actions import Baseline, Ddl
from recovery.archive.filestore import FileStore
from recovery.archive.layered import LayeredStore
from recovery.archive.names import Layout
from recovery.archive.state import ArchiveState
from recovery.archive.store import Store
from recovery.cascades import unlogged_action
from recovery.config import ServerSettings
from recovery.errors import RowbackError, TargetError
from recovery.failpoint import failpoint
from recovery.folding import note, scratch_folder
from recovery.loading import NotLoaded, load, run_as_logged
from recovery.output.report import Report
from recovery.refused import Refused, shown
from recovery.replayable import copied_from, moves, why_not, why_not_on
from recovery.restore import RestoreRequest, RestoreResult, restore
from recovery.schema import check_supported
from recovery.scope import TableName, label, spelled
from recovery.scratch_server import kind_of, made_tables, scratch_server
from recovery.snapshot.coordinates import Clock
from recovery.snapshot.reader import close, open_snapshot, read_rows
from recovery.source import Connection, server_info
from recovery.source_tables import read_tables, show_create_table
from recovery.synthetic_snapshot import REPLAYED, Begun, synthetic_snapshot
from recovery.tableinfo import system_versioned
from recovery.target import cut_of

T = TypeVar("T")


@dataclass(frozen=True)
class ReplayOptions:
    """What restores to just before a statement go by (recovery/restore.py). planning: nothing is to be carried out."""

    planning: bool
    memory_limit_bytes: int
    scratch_dir: Path | None
    thaw: tiers.Thaw | None


@dataclass
class Replays:
    """An archive, and on top of it what was replayed so far. A context manager: all of that is gone at the end.

    scratch: the scratch server's settings, None if there is none; asked for when one is needed."""

    store: Store
    state: ArchiveState
    layout: Layout
    scratch: Callable[[], ServerSettings | None]
    options: ReplayOptions
    now: Clock
    progress: Report
    _tried: set[int] = field(default_factory=set)
    _stack: ExitStack = field(default_factory=ExitStack)
    _folder: Path | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def run(self, work: Callable[[Store, ArchiveState], T]) -> T:
        """What `work` gives, called again whenever a statement that it was refused for has been replayed. Raises Refused for
        one that can't be, and what connecting raises."""
        while True:
            try:
                return work(self.store, self.state)
            except Refused as refusal:
                self._replay(refusal)

    def _replay(self, refusal: Refused) -> None:
        ddl = refusal.ddl
        if not refusal.replayed or unlogged_action(self.state, ddl.statement):
            raise refusal
        if ddl.seq in self._tried:  # what it left doesn't serve, as with a transaction in front of it left out
            raise Refused(refusal.table, ddl, refusal.why) from refusal
        settings = self.scratch()
        if settings is None:
            raise refusal
        reason = why_not(ddl)
        if reason:
            why = f"{refusal.why}, and it can't be replayed on a scratch server: {reason}"
            raise Refused(refusal.table, ddl, why) from refusal
        if self.options.planning:
            way_out = "have it replayed on the scratch server, which a restore does and a dry run doesn't, "
            raise Refused(refusal.table, ddl, refusal.why, way_out) from refusal
        self._tried.add(ddl.seq)
        at = f"{ddl.file}:{ddl.position}"
        where = f"the scratch server {settings.host}:{settings.port}"
        note(self.progress, f"table {label(refusal.table)}: `{shown(ddl)}` at {at} is replayed on {where}")
        try:
            before = self._before(ddl)
            with scratch_server(settings) as connection:
                self._on_server(connection, ddl, before)
                self._read_back(connection, settings, ddl, before)
        except NotLoaded as error:
            why = f"{refusal.why}, and it can't be replayed on {where}: {error}"
            raise Refused(refusal.table, ddl, why) from error

    def _before(self, ddl: Ddl) -> RestoreResult:
        """The statement's tables as they were in front of it, in files."""
        if self._folder is None:
            self._folder = self._stack.enter_context(scratch_folder(self.options.scratch_dir))
            self.store = LayeredStore(FileStore(self._folder / "objects"), self.store)
        request = RestoreRequest(
            to=f"{ddl.file}:{ddl.position}",
            tables=tuple(spelled(name) for name in _needed(ddl)),
            output=self._folder / f"before-{ddl.seq}",
            memory_limit_bytes=self.options.memory_limit_bytes,
            scratch_dir=self.options.scratch_dir,
            thaw=self.options.thaw,
        )
        try:
            found = self.run(partial(restore, request=request, progress=self.progress))
        except Refused:
            raise  # names a statement further back
        except TargetError as error:
            raise NotLoaded(f"its table can't be restored to just before it: {error.message}") from error
        if found.plan.cut.seq != ddl.seq - 1:
            raise NotLoaded("its place in the binlog can't be told")
        if any(system_versioned(text) for table in found.plan.tables for text in table.schema):
            raise NotLoaded("it changes a table that keeps its history")
        return found

    def _on_server(self, connection: Connection, ddl: Ddl, before: RestoreResult) -> None:
        identity, info = self.state.identity, server_info(connection)
        if identity is not None and kind_of(identity.flavor, identity.server_version) != kind_of(
            info.flavor, info.version
        ):
            was = f"{identity.flavor} {identity.server_version}"
            raise NotLoaded(f"that is {info.flavor} {info.version}, and the source was {was}")
        load(connection, before)
        assert before.output is not None
        shutil.rmtree(before.output)
        definitions = {(t.db, t.name): t for t in read_tables(connection, made_tables(connection))}
        lost = [name for name in _needed(ddl) if name not in definitions]
        if lost:
            raise NotLoaded(f"table `{label(lost[0])}` has another name there: compare lower_case_table_names")
        needed = [definitions[name] for name in _needed(ddl)]
        creates = [show_create_table(connection, t.db, t.name) for t in needed]
        why = why_not_on(ddl, needed, creates, info.flavor)
        if why:
            raise NotLoaded(why)
        run_as_logged(connection, ddl)
        failpoint("replay.replayed")

    def _read_back(self, connection: Connection, settings: ServerSettings, ddl: Ddl, before: RestoreResult) -> None:
        assert self._folder is not None
        begun = Begun.at(self.now, self.store, self.layout)
        baselines = _baselines(connection, settings, begun, self._folder)
        plan = replace(before.plan, cut=cut_of(self.store, self.state, ddl.seq), target=f"{ddl.file}:{ddl.position}")
        snapshot, _ = synthetic_snapshot(self.store, self.state, plan, begun, baselines, self.now, whole=False)
        self.state = replace(self.state, snapshots=(*self.state.snapshots, replace(snapshot, mode=REPLAYED)))


def _needed(ddl: Ddl) -> Sequence[TableName]:
    """The tables that must be there, the one that changes first."""
    model = copied_from(ddl)
    if model is not None:
        return (model,)
    assert ddl.tables
    return ddl.tables[:1] if moves(ddl) else tuple(dict.fromkeys(ddl.tables))


def _baselines(connection: Connection, settings: ServerSettings, begun: Begun, staging: Path) -> tuple[Baseline, ...]:
    """All that the server holds now."""
    found = []
    with ExitStack() as stack:
        reader = open_snapshot(settings)
        stack.callback(close, reader)
        for table in read_tables(connection, made_tables(connection)):
            try:
                check_supported(table)
            except RowbackError as error:
                raise NotLoaded(error.message) from error
            writer = begun.writer(table, staging)
            for values in read_rows(reader, table):
                writer.write([c.name for c in table.columns], values)
            found.append(writer.baseline(show_create_table(connection, table.db, table.name)))
    return tuple(found)
