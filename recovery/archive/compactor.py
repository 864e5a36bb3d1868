"""Compaction carried out: reads small segments, writes larger ones, and swaps them in one commit.

Promises: readers see the old or the new, never both and never neither; a row image of the new file has every value of the
old one (each new file is read back and compared before it counts); a crash leaves at worst orphans; if an input has been
removed meanwhile, nothing is committed and the plan is made again.

Rows of a new change segment are sorted by the key's columns, then by (seq, ordinal, before, after): lookups of a key read
one page per column with the page index, or nothing with the bloom filters on the key's columns; the merge takes the last
image of each key wherever it stands. Both images of an update share seq and ordinal, and stand apart if it changed the key.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recovery.archive.actions import Action, Remove, Segment, Transactions
from recovery.archive.compaction import CompactionPlan, Merge, Policy, plan_compaction
from recovery.archive.encoding import encode_parquet
from recovery.archive.log import READERS, Log
from recovery.archive.names import Layout
from recovery.archive.segments import (
    DELETE,
    UPDATE_BEFORE,
    read_segment,
    read_transactions,
    segment_schema,
)
from recovery.archive.sequences import Live
from recovery.archive.state import ArchiveState
from recovery.archive.store import Store
from recovery.errors import ArchiveDamaged, CommitConflict
from recovery.schema import Table, table_of

GRACE_S: Final = 24 * 3600
BATCH_INPUTS: Final = 2_000  # removed names per commit: about 300 KB of log
_PLANS: Final = 5


@dataclass(frozen=True)
class Compacted:
    """versions: the log versions that swapped files. left: see the plan. before, after: the bytes of the objects."""

    plan: CompactionPlan
    versions: tuple[int, ...]
    objects: int
    replaced: int
    before_bytes: int
    after_bytes: int


class _Overtaken(CommitConflict):
    """An input is no longer live."""


@dataclass
class Compactor:
    """grace_s: a commit is given up once its oldest object is older than half of that. on_merge: called after each new file
    with the bytes read so far."""

    store: Store
    layout: Layout
    log: Log
    policy: Policy = Policy()  # noqa: RUF009 - frozen
    grace_s: int = GRACE_S
    on_merge: Callable[[Merge, int], None] = lambda merge, size: None
    clock: Callable[[], float] = time.monotonic

    def run(self, state: ArchiveState) -> Compacted:
        """Compact until nothing is worth it. Raises CommitConflict if others change the same segments again and again,
        ArchiveDamaged for an input that doesn't have its recorded bytes; what was committed before stays."""
        done = Compacted(plan_compaction(state, self.policy), (), 0, 0, 0, 0)
        plan, plans = done.plan, 1
        while plan.merges:
            try:
                state, done = self._batch(state, _first_batch(plan.merges), done)
            except _Overtaken:
                plans += 1
                if plans > _PLANS:
                    raise
                state = self.log.read(state)
            plan = plan_compaction(state, self.policy)
        return done

    def _batch(self, state: ArchiveState, merges: Sequence[Merge], done: Compacted) -> tuple[ArchiveState, Compacted]:
        started = self.clock()
        made: list[Segment | Transactions] = []
        size = done.before_bytes
        for merge in merges:
            made.append(self._write(merge))
            size += merge.size_bytes
            self.on_merge(merge, size)
        removes = [Remove(path, merge.of) for merge in merges for path in merge.paths]

        def build(head: ArchiveState) -> Sequence[Action]:
            _check_live(head, removes)
            if self.clock() - started > self.grace_s / 2:
                raise CommitConflict(
                    "compaction took longer than half the grace time, after which its objects may be swept",
                    hint="Run it again; it goes on with what is left. Lengthen the grace time if it happens again.",
                )
            return [*removes, *made]

        after = self.log.commit(state, build)
        return after, replace(
            done,
            versions=(*done.versions, after.version),
            objects=done.objects + len(made),
            replaced=done.replaced + len(removes),
            before_bytes=size,
            after_bytes=done.after_bytes + sum(m.size_bytes for m in made),
        )

    def _write(self, merge: Merge) -> Segment | Transactions:
        if merge.of == Transactions.kind:
            return self._transactions([t for t in merge.inputs if isinstance(t, Transactions)])
        return self._segment([s for s in merge.inputs if isinstance(s, Segment)])

    def _segment(self, inputs: Sequence[Segment]) -> Segment:
        with ThreadPoolExecutor(READERS) as pool:  # each is a round trip of some 30 ms on S3
            parts = list(pool.map(lambda s: read_segment(self.store, s), inputs))
        table = table_of(parts[0].schema)
        data = pa.concat_tables([_plain(p, segment_schema(table), s.path) for p, s in zip(parts, inputs, strict=True)])
        del parts
        ordered = data.take(_order(table, data))
        body = encode_parquet(ordered, sorted_by=[table.column(name).archive_name for name in table.key])
        _check_read_back(body, ordered)
        digest = hashlib.sha256(body).hexdigest()
        first, last = min(s.first_seq for s in inputs), max(s.last_seq for s in inputs)
        low = min(s.min_cut_at_us for s in inputs)
        path = self.layout.segment(table.db, table.name, low, first, last, digest, secrets.token_hex(4))
        self.store.put(path, body)
        bounds = _key_bounds(table, inputs, ordered.schema)
        return replace(
            inputs[0],
            path=path,
            rows=sum(s.rows for s in inputs),
            size_bytes=len(body),
            sha256=digest,
            first_seq=first,
            last_seq=last,
            min_cut_at_us=low,
            max_cut_at_us=max(s.max_cut_at_us for s in inputs),
            inserts=sum(s.inserts for s in inputs),
            updates=sum(s.updates for s in inputs),
            deletes=sum(s.deletes for s in inputs),
            key_min=bounds[0],
            key_max=bounds[1],
        )

    def _transactions(self, inputs: Sequence[Transactions]) -> Transactions:
        with ThreadPoolExecutor(READERS) as pool:
            data = pa.concat_tables(pool.map(lambda t: next(iter(read_transactions(self.store, [t]))), inputs))
        body = encode_parquet(data, ("gtid",))
        _check_read_back(body, data)
        digest = hashlib.sha256(body).hexdigest()
        first, last = inputs[0], inputs[-1]
        path = self.layout.transactions(
            first.min_cut_at_us, first.first_seq, last.last_seq, digest, secrets.token_hex(4)
        )
        self.store.put(path, body)
        return Transactions(
            path=path,
            rows=data.num_rows,
            size_bytes=len(body),
            sha256=digest,
            first_seq=first.first_seq,
            last_seq=last.last_seq,
            min_cut_at_us=first.min_cut_at_us,
            max_cut_at_us=last.max_cut_at_us,
            first_file=first.first_file,
            first_position=first.first_position,
            last_file=last.last_file,
            last_position=last.last_position,
        )


def _first_batch(merges: Sequence[Merge]) -> list[Merge]:
    """As many as one commit takes."""
    batch: list[Merge] = []
    for merge in merges:
        if batch and sum(len(m.inputs) for m in batch) + len(merge.inputs) > BATCH_INPUTS:
            break
        batch.append(merge)
    return batch


def _check_live(head: ArchiveState, removes: Sequence[Remove]) -> None:
    assert isinstance(head.segments, Live)
    assert isinstance(head.transactions, Live)
    try:
        head.segments.without([r.path for r in removes if r.of == Segment.kind])
        head.transactions.without([r.path for r in removes if r.of == Transactions.kind])
    except KeyError as error:
        raise _Overtaken(
            f"object `{error.args[0]}` was removed by another compaction meanwhile",
            hint="Let one compaction at a time work on an archive.",
        ) from error


def _plain(part: pa.Table, schema: pa.Schema, path: str) -> pa.Table:
    """The part under the common schema: footers of an older format differ in their metadata."""
    if part.schema.names != schema.names or part.schema.types != schema.types:
        raise ArchiveDamaged(
            f"object `{path}` has other columns than its schema in the log",
            hint="It has the recorded bytes, so it was written wrong: please report this with the object's name.",
        )
    return part.cast(schema)


def _order(table: Table, data: pa.Table) -> pa.Array:
    before = pc.is_in(data["_rb_op"], pa.array([UPDATE_BEFORE, DELETE], pa.string()))
    keys = [table.column(name).archive_name for name in table.key]
    columns = {f"k{n}": data[name] for n, name in enumerate(keys)}
    columns |= {"seq": data["_rb_seq"], "ordinal": data["_rb_ordinal"], "after": pc.invert(before)}
    return pc.sort_indices(pa.table(columns), sort_keys=[(name, "ascending") for name in columns])


def _check_read_back(body: bytes, data: pa.Table) -> None:
    """The old files are deleted one day: what replaces them must hold every value."""
    source = pq.ParquetFile(pa.BufferReader(body), page_checksum_verification=True, pre_buffer=False)
    found = source.read(use_threads=False)
    if not found.equals(data) or found.schema.metadata != data.schema.metadata:
        raise ArchiveDamaged(
            "a compacted file doesn't read back as it was written",
            hint="Nothing was changed. Please report this as a bug, with the version of pyarrow.",
        )


def _key_bounds(table: Table, inputs: Sequence[Segment], schema: pa.Schema) -> tuple[str | None, str | None]:
    """Of all inputs, compared as the column's values are; None as soon as one has none."""
    lows = [s.key_min for s in inputs if s.key_min is not None]
    highs = [s.key_max for s in inputs if s.key_max is not None]
    if not table.key or len(lows) < len(inputs) or len(highs) < len(inputs):
        return None, None
    by_number = pa.types.is_integer(schema.field(table.column(table.key[0]).archive_name).type)

    def value(text: str) -> Any:
        return int(text) if by_number else text.encode()

    return min(lows, key=value), max(highs, key=value)
