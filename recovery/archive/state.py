"""The state of an archive: a pure fold over the commits of its log.

`Commit` is one log object with its printer and parser; `apply(state, commit)` gives the state after it, or says which
invariant of docs/FORMAT.md the commit breaks. The log checks each commit here before writing it and again after reading
it, so what one version of Rowback writes can always be read back. No I/O, no clock.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeAlias, TypeVar

from recovery.archive.actions import (
    Action,
    Checkpoint,
    Ddl,
    Failover,
    Gap,
    Identity,
    Pending,
    PendingEnd,
    Remove,
    SchemaSeen,
    Segment,
    Snapshot,
    Swept,
    Transactions,
    Writer,
    action_from_json,
    action_to_json,
)
from recovery.archive.prepared import fold_pending
from recovery.archive.replacing import InvariantError, Removed, check_replaced, must
from recovery.archive.sequences import History, Live
from recovery.errors import ArchiveDamaged, UnknownFormat
from recovery.lowercase import lowered
from recovery.schema import FORMAT, Table

T = TypeVar("T")
N = TypeVar("N", Segment, Transactions)


@dataclass(frozen=True)
class Commit:
    """One log object. sha256: of its bytes; the next commit carries it as previous_sha256."""

    version: int
    commit_id: str
    generation: int | None
    previous_sha256: str
    created_at_us: int
    actions: tuple[Action, ...]
    sha256: str = ""

    def to_bytes(self) -> bytes:
        """UTF-8 JSON without a final line feed; `from_bytes` is its inverse."""
        document = {
            "format": FORMAT,
            "version": self.version,
            "commit_id": self.commit_id,
            "generation": self.generation,
            "previous_sha256": self.previous_sha256,
            "created_at_us": self.created_at_us,
            "actions": [action_to_json(a) for a in self.actions],
        }
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()

    @staticmethod
    def from_bytes(body: bytes, name: str) -> Commit:
        """Parse a log object called `name`. Raises UnknownFormat for a newer format and ArchiveDamaged for anything
        that isn't a commit."""
        try:
            document = json.loads(body)
            number = document["format"]
            if isinstance(number, int) and number > FORMAT:
                raise UnknownFormat(
                    f"`{name}` has format {number}; this version knows formats up to {FORMAT}",
                    hint="Use the Rowback version that wrote this archive, or a newer one.",
                )
            if type(number) is not int or number < 1:
                raise ValueError(f"format `{number}`")
            commit = Commit(
                version=_typed(document, "version", int),
                commit_id=_typed(document, "commit_id", str),
                generation=None if document["generation"] is None else _typed(document, "generation", int),
                previous_sha256=_typed(document, "previous_sha256", str),
                created_at_us=_typed(document, "created_at_us", int),
                actions=tuple(action_from_json(a) for a in _typed(document, "actions", list)),
                sha256=hashlib.sha256(body).hexdigest(),
            )
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise damaged(name, f"is not a commit: {type(error).__name__}: {error}") from error
        return commit


def damaged(name: str, what: str) -> ArchiveDamaged:
    return ArchiveDamaged(
        f"log object `{name}` {what}",
        hint="Bring it back from the store's own versioning or a copy; commits before it are not affected.",
    )


def _typed(document: Mapping[str, Any], name: str, kind: type[T]) -> T:
    value = document[name]
    if type(value) is not kind:
        raise TypeError(f"`{name}` is `{value!r:.40}`")
    return value


@dataclass(frozen=True)
class ArchiveState:
    """What the log says up to `version` (0: an empty archive). Sequences ascend: checkpoints and ddls as committed,
    transactions by seq, snapshots by finished_at_us; segments stand in the order of their commits, which compaction makes
    another one than that of their seqs. Later states share their items with earlier ones; none ever changes. From an index
    (recovery/archive/index.py) the items are built when they are looked at.

    sha256: of the newest log object's bytes; "" at version 0. generation: of the newest writer; 0 if there was none.
    start: the first checkpoint, where coverage begins. removed: names of objects that no longer count and may still be
    there. updated_at_us: when the newest commit was made.
    """

    version: int = 0
    sha256: str = ""
    identity: Identity | None = None
    generation: int = 0
    writers: Sequence[Writer] = field(default_factory=History)
    start: Checkpoint | None = None
    checkpoint: Checkpoint | None = None
    checkpoints: Sequence[Checkpoint] = field(default_factory=History)
    schemas: Mapping[str, Table] = field(default_factory=dict)
    segments: Sequence[Segment] = field(default_factory=Live)
    transactions: Sequence[Transactions] = field(default_factory=lambda: Live(by_seq=True))
    ddls: Sequence[Ddl] = field(default_factory=History)
    snapshots: Sequence[Snapshot] = ()
    gaps: Sequence[Gap] = field(default_factory=History)
    failovers: Sequence[Failover] = field(default_factory=History)
    removed: Sequence[Removed] = field(default_factory=History)
    pending: Sequence[Pending] = ()
    updated_at_us: int = 0

    @property
    def source(self) -> Identity | None:
        """The server that capture follows now: the first one, or that of the newest failover."""
        if self.identity is None or not self.failovers:
            return self.identity
        now = self.failovers[-1]
        return Identity(self.identity.flavor, now.server_uuid, now.server_id, now.server_version)

    def lineage_of(self, seq: int) -> int:
        """How many failovers came before a transaction: positions of two lineages can't be compared."""
        return sum(1 for failover in self.failovers if failover.after_seq < seq)

    @property
    def newest_first(self) -> tuple[Snapshot, ...]:
        """Snapshots by the moment whose state they hold. A synthetic one may be of a moment long before it was made."""
        ordered = sorted(enumerate(self.snapshots), key=lambda s: (s[1].lineage, s[1].high.read_at_us, s[0]))
        return tuple(snapshot for _, snapshot in reversed(ordered))

    @property
    def writer(self) -> Writer | None:
        """The newest writer."""
        return self.writers[-1] if self.writers else None

    @cached_property
    def database_ddls(self) -> Sequence[Ddl]:
        """The statements on databases themselves, of all that there are a few."""
        return [d for d in self.ddls if d.verb.endswith(" DATABASE")]

    @property
    def lower_case_table_names(self) -> int | None:
        """The source's, as the newest capture found it; None if only earlier versions captured."""
        return self.writer.lower_case_table_names if self.writer else None

    def stored_name(self, text: str) -> str:
        """A name, or a pattern of names, as the source stores what a user wrote."""
        return lowered(text) if self.lower_case_table_names == 1 else text

    @property
    def holes(self) -> Sequence[Gap]:
        """The gaps behind which something is missing. A gap without an end only says that capture stopped: once there are
        transactions after it, capture went on exactly where it had stopped, for it never resumes anywhere else."""
        return [gap for gap in self.gaps if gap.to_file is not None or self.last_seq <= gap.after_seq]

    @property
    def last_seq(self) -> int:
        """The newest transaction's seq; 0 if there is none."""
        return self.transactions[-1].last_seq if self.transactions else 0


EMPTY = ArchiveState()


def apply(state: ArchiveState, commit: Commit) -> ArchiveState:
    """The state after `commit`. Raises InvariantError."""
    if commit.version != state.version + 1:
        raise InvariantError(f"holds version {commit.version} instead of {state.version + 1}")
    if commit.previous_sha256 != state.sha256:
        raise InvariantError(f"doesn't follow version {state.version}: its chain hash is another object's")
    try:
        after = _fold(state, commit.version, commit.actions)
    except TypeError as error:  # a field of the wrong JSON type
        raise InvariantError(f"holds a field of the wrong type: {error}") from error
    if commit.generation is not None and commit.generation != after.generation:
        raise InvariantError(
            f"was written by generation {commit.generation} while generation {after.generation} was current"
        )
    return replace(after, version=commit.version, sha256=commit.sha256, updated_at_us=commit.created_at_us)


def _fold(state: ArchiveState, version: int, actions: Sequence[Action]) -> ArchiveState:
    def of(kind: type[T]) -> list[T]:
        return [a for a in actions if isinstance(a, kind)]

    removes = of(Remove)
    old_segments, old_transactions, removed = _removed(state, removes, of(Swept), version)
    checkpoints, segments, transactions = of(Checkpoint), of(Segment), of(Transactions)
    schemas = _schemas(state.schemas, of(SchemaSeen))
    writer = _writer(state, of(Writer))
    last_seq = state.last_seq
    if removes:
        new_segments, new_transactions = _until(segments, last_seq), _until(transactions, last_seq)
        _must_be_new(state, removes, [*(s.path for s in new_segments), *(t.path for t in new_transactions)])
        check_replaced(old_segments[1], old_transactions[1], new_segments, new_transactions, schemas)
        for t in new_transactions:
            one = state.lineage_of(t.first_seq) == state.lineage_of(t.last_seq)
            must(one, f"joins transactions of two servers, {t.first_seq} to {t.last_seq}")
    own = [t for t in transactions if not removes or t.last_seq > last_seq]
    last_seq = _check_transactions(state, own)
    known_seq = state.last_seq
    _check_segments(known_seq, [s for s in segments if not removes or s.last_seq > known_seq], schemas, last_seq)
    _check_checkpoints(state, checkpoints, last_seq)
    seqs = (state.last_seq, last_seq)
    pending, void = fold_pending(state.pending, of(Pending), of(PendingEnd), segments, schemas, seqs, version)
    failovers = of(Failover)
    _check_failovers(state, failovers, transactions, checkpoints)
    snapshots: Sequence[Snapshot] = state.snapshots
    if new := of(Snapshot):
        names = [s.snapshot_id for s in (*snapshots, *new)]
        must(len(set(names)) == len(names), f"repeats a snapshot: {', '.join(s.snapshot_id for s in new)}")
        snapshots = tuple(sorted((*snapshots, *new), key=lambda s: (s.finished_at_us, s.snapshot_id)))
    return replace(
        state,
        identity=_identity(state, of(Identity)),
        generation=writer.generation if writer else state.generation,
        writers=_grown(state.writers, [writer] if writer else []),
        start=state.start or (checkpoints[0] if checkpoints else None),
        checkpoint=checkpoints[-1] if checkpoints else state.checkpoint,
        checkpoints=_grown(state.checkpoints, checkpoints),
        schemas=schemas,
        segments=old_segments[0].grown(segments),
        transactions=old_transactions[0].grown(transactions),
        ddls=_grown(state.ddls, of(Ddl)),
        snapshots=snapshots,
        gaps=_grown(state.gaps, of(Gap)),
        removed=_grown(removed, void),
        pending=pending,
        failovers=_grown(state.failovers, failovers),
    )


_Kept: TypeAlias = tuple[Live[N], list[N]]


def _removed(
    state: ArchiveState, removes: Sequence[Remove], swept: Sequence[Swept], version: int
) -> tuple[_Kept[Segment], _Kept[Transactions], Sequence[Removed]]:
    """(kept, removed) of the segments and of the transactions segments, and the names not yet swept."""
    segments = state.segments if isinstance(state.segments, Live) else Live(state.segments)
    transactions = state.transactions if isinstance(state.transactions, Live) else Live(state.transactions, by_seq=True)
    names = state.removed
    for action in swept:
        must(action.version <= state.version, f"sweeps version {action.version}, which is newer than itself")
        names = History([r for r in names if r.version > action.version])
    if not removes:
        return (segments, []), (transactions, []), names
    must(len({r.path for r in removes}) == len(removes), "removes an object twice")
    must(all(r.of in (Segment.kind, Transactions.kind) for r in removes), "removes an object of an unknown kind")
    try:
        return (
            segments.without([r.path for r in removes if r.of == Segment.kind]),
            transactions.without([r.path for r in removes if r.of == Transactions.kind]),
            _grown(names, [Removed(r.path, version) for r in removes]),
        )
    except KeyError as error:
        raise InvariantError(f"removes `{error.args[0]}`, which isn't live") from error


def _must_be_new(state: ArchiveState, removes: Sequence[Remove], names: Sequence[str]) -> None:
    taken = {r.path for r in state.removed} | {r.path for r in removes}
    for name in names:
        must(name not in taken, f"brings the removed name `{name}` back")


def _until(items: Sequence[N], last_seq: int) -> list[N]:
    return [item for item in items if item.last_seq <= last_seq]


def _identity(state: ArchiveState, new: Sequence[Identity]) -> Identity | None:
    for identity in new:
        must(state.identity is None and len(new) == 1, "names the source server a second time")
        return identity
    return state.identity


def _writer(state: ArchiveState, new: Sequence[Writer]) -> Writer | None:
    for writer in new:
        must(
            len(new) == 1 and writer.generation == state.generation + 1,
            f"starts generation {writer.generation} after generation {state.generation}",
        )
        must(writer.after_seq == state.last_seq, f"starts after seq {writer.after_seq} instead of {state.last_seq}")
        return writer
    return None


def _schemas(known: Mapping[str, Table], new: Sequence[SchemaSeen]) -> Mapping[str, Table]:
    if not new:
        return known
    schemas = dict(known)
    for action in new:
        must(action.table.schema_id == action.schema_id, f"holds schema `{action.schema_id}` with another definition")
        schemas[action.schema_id] = action.table
    return schemas


def _check_transactions(state: ArchiveState, new: Sequence[Transactions]) -> int:
    """Seqs go on from the last commit without a hole, times never fall. Returns the newest seq."""
    last = state.last_seq
    cut_at_us = state.transactions[-1].max_cut_at_us if state.transactions else None
    covered_to_us = state.checkpoint.covered_to_us if state.checkpoint else None
    for t in new:
        must(t.first_seq == last + 1, f"holds transactions from seq {t.first_seq} on, after seq {last}")
        must(
            t.last_seq - t.first_seq + 1 == t.rows and t.rows > 0,
            f"says {t.rows} rows for the transactions {t.first_seq} to {t.last_seq}",
        )
        must(cut_at_us is None or t.min_cut_at_us >= cut_at_us, f"has a cut time before that of seq {last}")
        must(
            covered_to_us is None or t.min_cut_at_us > covered_to_us,
            f"has a cut time of {t.min_cut_at_us}, which was promised as covered to {covered_to_us}",
        )
        last, cut_at_us = t.last_seq, t.max_cut_at_us
    return last


def _check_segments(known_seq: int, new: Sequence[Segment], schemas: Mapping[str, Table], last_seq: int) -> None:
    for s in new:
        must(s.schema_id in schemas, f"refers to the schema `{s.schema_id}`, which no commit holds")
        must(
            known_seq < s.first_seq <= s.last_seq <= last_seq,
            f"holds a segment of the transactions {s.first_seq} to {s.last_seq}, outside its own "
            f"({known_seq + 1} to {last_seq})",
        )


def _check_failovers(
    state: ArchiveState,
    new: Sequence[Failover],
    transactions: Sequence[Transactions],
    checkpoints: Sequence[Checkpoint],
) -> None:
    for failover in new:
        source = state.source
        must(
            source is not None and source.server_uuid == failover.from_server_uuid,
            "leaves a server that wasn't followed",
        )
        must(len(new) == 1 and not transactions and len(checkpoints) == 1, "fails over beside other transactions")
        must(
            failover.after_seq == state.last_seq,
            f"fails over after seq {failover.after_seq} instead of {state.last_seq}",
        )


def _check_checkpoints(state: ArchiveState, new: Sequence[Checkpoint], last_seq: int) -> None:
    newest = state.checkpoint
    for c in new:
        if newest is not None:
            must(
                c.seq >= newest.seq and c.cut_at_us >= newest.cut_at_us and c.covered_to_us >= newest.covered_to_us,
                f"has a checkpoint at seq {c.seq} that goes back behind the one at seq {newest.seq}",
            )
        newest = c
    covered = newest.seq if newest else 0
    must(covered == last_seq, f"has its checkpoint at seq {covered}, but transactions to seq {last_seq}")


def _grown(known: Sequence[T], new: Sequence[T]) -> Sequence[T]:
    return known.grown(new) if isinstance(known, History) else History(known).grown(new)
