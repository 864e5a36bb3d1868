"""The actions that a log commit is made of: frozen records and their JSON form.

    identity      the source server this archive belongs to; the first commit holds it
    writer        a capture takes over with a new generation; older generations are fenced
    checkpoint    how far the stream is covered, and where capture resumes
    schema        a table definition seen for the first time
    segment       a change segment: row images of one table
    transactions  a transactions segment: one row per transaction, whatever it changed
    ddl           a DDL statement from the binlog
    snapshot      a finished snapshot with its baselines
    failover      capture goes on at another server of the same history
    gap           a range of the source's history that was not captured; nothing erases it
    remove        an object that no longer counts: others of the same commit hold its rows
    swept         removed objects that have been deleted
    pending       row images of a prepared XA transaction, which no reader sees yet
    pending_end   the end of a prepared XA transaction: what was pending is made of segments now, or is void

Times are microseconds since the epoch, UTC. Positions are (binlog file, offset in bytes).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeAlias, get_args

from recovery.archive.snapshot_scope import SnapshotScope
from recovery.errors import UnknownFormat
from recovery.schema import Table


@dataclass(frozen=True)
class Identity:
    """server_uuid: of MySQL; None on MariaDB, which has none. server_id: pinned for MariaDB only."""

    kind: ClassVar[str] = "identity"
    flavor: str  # "mysql" | "mariadb"
    server_uuid: str | None
    server_id: int
    server_version: str


@dataclass(frozen=True)
class Writer:
    """A capture that took over after transaction `after_seq`. include, exclude: its filter, patterns `db.table`; tables
    that it leaves out have no changes in the archive until the next writer. lower_case_table_names: the source's; None in
    logs of earlier versions."""

    kind: ClassVar[str] = "writer"
    generation: int
    host: str
    pid: int
    started_at_us: int
    after_seq: int = 0
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    lower_case_table_names: int | None = None


@dataclass(frozen=True)
class Checkpoint:
    """Everything before (file, position) is in the archive, up to and with transaction `seq` (0: none yet).

    gtid_set: all GTIDs that stand before the position, captured or older; on MariaDB the last GTID per domain; empty when
    the source has no GTIDs. transaction_position, transaction_digest: where the last captured transaction starts (in
    transaction_file) and the SHA-256 over its events' checksums; None until there is one. cut_at_us: of the last
    transaction. covered_to_us: no later transaction has or will get a cut_at_us at or below it. file_begun_at_us: when the
    source began `file`, in whole seconds, which tells it from another one of that name; None where it isn't known.
    """

    kind: ClassVar[str] = "checkpoint"
    seq: int
    file: str
    position: int
    gtid_set: str
    cut_at_us: int
    covered_to_us: int
    transaction_file: str | None = None
    transaction_position: int | None = None
    transaction_digest: str | None = None
    file_begun_at_us: int | None = None


@dataclass(frozen=True)
class SchemaSeen:
    kind: ClassVar[str] = "schema"
    schema_id: str
    seq: int
    table: Table


@dataclass(frozen=True)
class Segment:
    """A change segment's object and what a planner needs to choose it without opening it. key_min and key_max are the
    smallest and largest first key column as text, None where that column isn't an integer or text."""

    kind: ClassVar[str] = "segment"
    path: str
    db: str
    table: str
    schema_id: str
    rows: int
    size_bytes: int
    sha256: str
    first_seq: int
    last_seq: int
    min_cut_at_us: int
    max_cut_at_us: int
    inserts: int
    updates: int
    deletes: int
    key_min: str | None = None
    key_max: str | None = None


@dataclass(frozen=True)
class Transactions:
    """A transactions segment. The first transaction starts at (first_file, first_position); the last one ends at
    (last_file, last_position)."""

    kind: ClassVar[str] = "transactions"
    path: str
    rows: int
    size_bytes: int
    sha256: str
    first_seq: int
    last_seq: int
    min_cut_at_us: int
    max_cut_at_us: int
    first_file: str
    first_position: int
    last_file: str
    last_position: int


@dataclass(frozen=True)
class Session:
    """The settings under which a statement ran, as its binlog event has them. sql_mode: as a number. charset: the client's
    character set; collation, server_collation: collation_connection and collation_server by their numbers. time_zone: as
    SET takes it; None where the event doesn't say (only statements that read it do). invoker: `user`@`host` that ran it, as
    (user, host); None where the statement names its definer. started_at_us: what NOW() gave, in whole seconds for most.
    numbering: auto_increment_increment and auto_increment_offset. complete: whether these are all settings of the event that
    bear on what a statement makes; False in logs of earlier versions, which don't have the numbering either. system_zone:
    what the time zone SYSTEM was on the source then, as SET takes it; None if that isn't known. explicit_timestamps:
    explicit_defaults_for_timestamp; None where the log doesn't have it (MariaDB before 10.10, statements that make no table,
    logs of earlier versions)."""

    sql_mode: int
    charset: str
    collation: int
    server_collation: int
    time_zone: str | None
    invoker: tuple[str, str] | None
    started_at_us: int
    numbering: tuple[int, int] = (1, 1)
    complete: bool = False
    system_zone: str | None = None
    explicit_timestamps: bool | None = None

    @property
    def zone(self) -> str | None:
        """The time zone; SYSTEM only if it isn't known what that was."""
        return self.system_zone or self.time_zone if self.time_zone == "SYSTEM" else self.time_zone


@dataclass(frozen=True)
class Ddl:
    """A DDL statement. `tables` are the (db, table) pairs that it may touch; None means that they are not known and any
    table may be touched; empty means that it touches no table's rows or columns (a GRANT, a view, a routine). An entry
    with an empty table name, (db, ""), stands for every table of that database. session: None in logs of earlier versions,
    and where the event has other settings than this version knows. statement: as logged, but for names of tables and
    databases where the source keeps them in lower case (recovery/stored_names.py), and for quotes, backslashes and REAL that
    the session's sql_mode made others of, whose bits are then not in session (recovery/usual_mode.py); logged: as it was
    then, None if it is the same."""

    kind: ClassVar[str] = "ddl"
    seq: int
    gtid: str | None
    file: str
    position: int
    cut_at_us: int
    default_db: str
    statement: str
    verb: str
    tables: tuple[tuple[str, str], ...] | None
    session: Session | None = None
    logged: str | None = None


@dataclass(frozen=True)
class Mark:
    """A watermark of a snapshot. gtid_set is empty where the source has no GTIDs; then the position decides."""

    gtid_set: str
    file: str
    position: int
    read_at_us: int


@dataclass(frozen=True)
class DataObject:
    path: str
    rows: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Baseline:
    """One table's typed state in a snapshot. create_statement is the server's own SHOW CREATE TABLE.

    In a synthetic snapshot it may be what created the table, written for its name; program: the DDL behind it, written
    likewise. The rows have passed the first `applied` of these statements: `definition` is what these left, and has no
    columns if there are no rows and their form was never seen."""

    db: str
    table: str
    schema_id: str
    definition: Table
    create_statement: str
    rows: int
    objects: tuple[DataObject, ...]
    program: tuple[Ddl, ...] = ()
    applied: int = 0


@dataclass(frozen=True)
class Cascade:
    """A foreign key of a child table whose action changes rows without row events in the binlog. on_delete, on_update:
    what it does; CASCADE, SET NULL, SET DEFAULT, or another rule, which changes nothing."""

    db: str
    table: str
    parent_db: str
    parent_table: str
    on_delete: str
    on_update: str


@dataclass(frozen=True)
class SchemaObject:
    """A trigger, view, procedure, function or event on the source. table: the trigger's; else empty."""

    type: str
    db: str
    name: str
    table: str = ""


@dataclass(frozen=True)
class Synthetic:
    """How a snapshot was made from the archive alone: it is the state at the end of transaction `seq`. target: what was
    asked for. sources: ids of the snapshots that its tables came of. definitions, databases and what the server said of
    both are of definitions_read_at_us; `ddls` are the statements behind that which may have changed them."""

    seq: int
    gtid: str | None
    target: str
    sources: tuple[str, ...]
    definitions_read_at_us: int
    ddls: tuple[Ddl, ...] = ()


@dataclass(frozen=True)
class Snapshot:
    """mode: "brief" (LOW equals HIGH), "none" or "synthetic". path: the dump directory's prefix below the archive's root, ""
    for a synthetic one, which has none.
    databases: each dumped database's CREATE DATABASE statement. skipped: tables left out, with the reason. cascades: of
    the whole server, whatever the snapshot holds. objects: of the snapshot's databases, those that the account sees.
    definitions: the object with what the server says of them (recovery/archive/definitions.py); None in logs of earlier
    versions.
    lineage: how many failovers were before it, which tells whose positions the marks have. scope: None in logs of earlier
    versions, and of a synthetic one, where a table that isn't held may have been there."""

    kind: ClassVar[str] = "snapshot"
    snapshot_id: str
    mode: str
    low: Mark
    high: Mark
    started_at_us: int
    finished_at_us: int
    path: str
    size_bytes: int
    databases: tuple[tuple[str, str], ...]
    baselines: tuple[Baseline, ...]
    skipped: tuple[tuple[str, str, str], ...] = ()
    sql_mode: str = ""
    cascades: tuple[Cascade, ...] = ()
    objects: tuple[SchemaObject, ...] = ()
    lineage: int = 0
    definitions: DataObject | None = None
    synthetic: Synthetic | None = None
    scope: SnapshotScope | None = None


@dataclass(frozen=True)
class Failover:
    """Behind transaction `after_seq` capture goes on at another server of the same history, at (file, position): from here
    on positions are of its files, which may have the names of the old one's. gtid: the transaction by which both were
    proved to have one history; proof: what was compared, "commit time" or "rows". covered_to_us: of the checkpoint before
    it."""

    kind: ClassVar[str] = "failover"
    after_seq: int
    from_server_uuid: str
    server_uuid: str
    server_id: int
    server_version: str
    gtid: str
    proof: str
    file: str
    position: int
    covered_to_us: int


@dataclass(frozen=True)
class Gap:
    """What was not captured: from the checkpoint after `after_seq` to where capture could go on (None: not yet known).
    lineage: how many failovers were before it, which tells whose positions these are."""

    kind: ClassVar[str] = "gap"
    after_seq: int
    from_file: str
    from_position: int
    to_file: str | None
    to_position: int | None
    recorded_at_us: int
    reason: str
    lineage: int = 0


@dataclass(frozen=True)
class Remove:
    """An object that no longer counts. of: what it is, "segment" or "transactions". The same commit adds segments of the
    same table, schema and transactions with exactly its rows; the object itself stays for the grace time."""

    kind: ClassVar[str] = "remove"
    path: str
    of: str


@dataclass(frozen=True)
class Swept:
    """The objects that versions up to `version` removed have been deleted."""

    kind: ClassVar[str] = "swept"
    version: int


@dataclass(frozen=True)
class PendingObject:
    """An object of a prepared XA transaction: rows of one table, as in a change segment, with the seq, GTID and times of
    the PREPARE."""

    path: str
    db: str
    table: str
    schema_id: str
    rows: int
    size_bytes: int
    sha256: str
    inserts: int
    updates: int
    deletes: int


@dataclass(frozen=True)
class Pending:
    """An XA transaction that is prepared by transaction `seq` and neither committed nor rolled back. xid: as the binlog
    writes it, `X'<gtrid>',X'<bqual>',<format>`. row_changes: of all its objects, an update counted once."""

    kind: ClassVar[str] = "pending"
    xid: str
    seq: int
    row_changes: int
    objects: tuple[PendingObject, ...]


@dataclass(frozen=True)
class PendingEnd:
    """The XA transaction that transaction `prepared_seq` prepared has ended with transaction `seq`. committed: the same
    commit has its rows as segments of that transaction; else they are void. Its objects no longer count."""

    kind: ClassVar[str] = "pending_end"
    xid: str
    prepared_seq: int
    seq: int
    committed: bool


Action: TypeAlias = (
    Identity
    | Failover
    | Writer
    | Checkpoint
    | SchemaSeen
    | Segment
    | Transactions
    | Ddl
    | Snapshot
    | Gap
    | Remove
    | Swept
    | Pending
    | PendingEnd
)

_KINDS: dict[str, type[Any]] = {cls.kind: cls for cls in get_args(Action)}


def action_to_json(action: Action) -> dict[str, Any]:
    """The action with its kind under "action". Tuples become lists; tables take their own JSON form."""
    data = _plain(action)
    assert isinstance(data, dict)
    return {"action": action.kind, **data}


def action_from_json(data: Mapping[str, Any]) -> Action:
    kind = str(data.get("action"))
    if kind not in _KINDS:
        raise UnknownFormat(
            f"the log holds an action `{kind}` that this version doesn't know",
            hint="Use the Rowback version that wrote this archive, or a newer one.",
        )
    given = {k: v for k, v in data.items() if k != "action"}
    cls = _KINDS[kind]
    if cls is SchemaSeen:
        given["table"] = Table.from_json(given["table"])
    if cls is Writer:
        given["include"], given["exclude"] = tuple(given.get("include", ())), tuple(given.get("exclude", ()))
    if cls is Pending:
        given["objects"] = tuple(PendingObject(**o) for o in given["objects"])
    if cls is Ddl:
        return _ddl(given)
    if cls is Snapshot:
        given["low"] = Mark(**given["low"])
        given["high"] = Mark(**given["high"])
        given["databases"] = tuple((db, text) for db, text in given["databases"])
        given["skipped"] = tuple((db, table, why) for db, table, why in given["skipped"])
        given["baselines"] = tuple(_baseline(b) for b in given["baselines"])
        given["cascades"] = tuple(Cascade(**c) for c in given.get("cascades", ()))
        given["objects"] = tuple(SchemaObject(**o) for o in given.get("objects", ()))
        given["definitions"] = DataObject(**found) if (found := given.get("definitions")) else None
        given["synthetic"] = _synthetic(given.get("synthetic"))
        given["scope"] = _scope(given.get("scope"))
    action: Action = cls(**given)
    return action


def _scope(data: Mapping[str, Any] | None) -> SnapshotScope | None:
    return None if data is None else SnapshotScope(**{name: tuple(patterns) for name, patterns in data.items()})


def _session(data: Mapping[str, Any] | None) -> Session | None:
    if data is None:
        return None
    pairs = {name: (pair[0], pair[1]) for name in ("invoker", "numbering") if (pair := data.get(name)) is not None}
    return Session(**{**data, **pairs})


def _ddl(data: Mapping[str, Any]) -> Ddl:
    tables = data["tables"]
    named = None if tables is None else tuple((db, table) for db, table in tables)
    return Ddl(**{**data, "tables": named, "session": _session(data.get("session"))})


def _synthetic(data: Mapping[str, Any] | None) -> Synthetic | None:
    if data is None:
        return None
    return Synthetic(**{**data, "sources": tuple(data["sources"]), "ddls": tuple(_ddl(d) for d in data["ddls"])})


def _baseline(data: Mapping[str, Any]) -> Baseline:
    given = dict(data)
    given["program"] = tuple(_ddl(d) for d in given.get("program", ()))
    given["definition"] = Table.from_json(given["definition"])
    given["objects"] = tuple(DataObject(**o) for o in given["objects"])
    return Baseline(**given)


def _plain(value: object) -> object:
    if isinstance(value, Table):
        return value.to_json()
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    if hasattr(value, "__dataclass_fields__"):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}  # type: ignore[arg-type]
    return value
