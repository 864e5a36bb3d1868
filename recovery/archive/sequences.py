"""The sequences that a state is made of: immutable, cheap to grow, and cheap to open.

    Rows      items over an Arrow table, built when they are looked at: an index of 100,000 segments opens in no time
    History   items as they were committed: grows without copying, over Rows or nothing
    Live      a History some of whose items were removed again, by path

None ever changes: growing gives a new one that shares the items.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, Generic, Protocol, TypeVar, overload

import numpy as np
import pyarrow as pa

T = TypeVar("T")
_growing = threading.Lock()
_CHUNK = 4096


class _Immutable(Sequence[T], Generic[T]):
    """What they have in common: compared item by item with any sequence, pickled as a list."""

    __slots__ = ()

    def _at(self, index: int) -> T:
        """The item at 0 <= index < len(self)."""
        raise NotImplementedError

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        if isinstance(index, slice):
            return tuple(self._at(i) for i in range(*index.indices(len(self))))
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(index)
        return self._at(position)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, _Immutable | tuple | list):
            return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self)!r})"


class Rows(_Immutable[T]):
    """make: from the values of one row, in the table's column order."""

    __slots__ = ("_paths", "make", "table")

    def __init__(self, table: pa.Table, make: Callable[..., T]) -> None:
        self.table = table
        self.make = make
        self._paths: dict[str, int] | None = None

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __iter__(self) -> Iterator[T]:
        for batch in self.table.to_batches(max_chunksize=_CHUNK):
            for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                yield self.make(*row)

    def _at(self, index: int) -> T:
        return self.make(*(column[index].as_py() for column in self.table.columns))

    def index_of(self, path: str) -> int | None:
        """The row with this `path`."""
        if self._paths is None:
            self._paths = {path: i for i, path in enumerate(self.table["path"].to_pylist())}
        return self._paths.get(path)

    def __reduce__(self) -> tuple[object, ...]:
        return (tuple, (list(self),))


class History(_Immutable[T]):
    """Shares its items with the longer ones grown from it: growing by k items costs O(k), so folding n commits costs O(n).
    Growing the same one twice copies, and never shows one branch's items in the other."""

    __slots__ = ("_items", "_length", "base")

    def __init__(self, items: Iterable[T] = (), base: Sequence[T] = ()) -> None:
        self.base = base
        self._items = list(items)
        self._length = len(self._items)

    def grown(self, new: Sequence[T]) -> History[T]:
        if not new:
            return self
        longer: History[T] = History.__new__(History)
        with _growing:
            shared = self._items if len(self._items) == self._length else self._items[: self._length]
            shared.extend(new)
            longer.base, longer._items, longer._length = self.base, shared, self._length + len(new)
        return longer

    @property
    def tail(self) -> Iterator[T]:
        """The items behind the base."""
        return islice(self._items, self._length)

    def __len__(self) -> int:
        return len(self.base) + self._length

    def __iter__(self) -> Iterator[T]:
        return chain(self.base, self.tail) if len(self.base) else self.tail

    def _at(self, index: int) -> T:
        own = index - len(self.base)
        return self._items[own] if own >= 0 else self.base[index]

    def __reduce__(self) -> tuple[object, ...]:
        return (History, (list(self),))


class Named(Protocol):
    @property
    def path(self) -> str: ...
    @property
    def last_seq(self) -> int: ...


N = TypeVar("N", bound=Named)


class Live(_Immutable[N]):
    """Objects that count: all that were committed without those removed again. In the order of commits, or, `by_seq`, in
    that of their last_seq, so that what replaces an old one stands in its place."""

    __slots__ = ("_ascending", "_dead", "_every", "_last", "_places", "by_seq")

    def __init__(self, items: Iterable[N] = (), *, base: Sequence[N] = (), by_seq: bool = False) -> None:
        """base: items of which none is removed yet, in the order that by_seq asks for."""
        self.by_seq = by_seq
        self._every: History[N] = History((), base)
        self._dead: frozenset[int] = frozenset()
        self._ascending = True
        self._last: N | None = base[-1] if by_seq and len(base) else None
        self._places: np.ndarray[Any, np.dtype[np.int64]] | None = None
        if given := list(items):
            grown = self.grown(given)
            self._every, self._ascending, self._last = grown._every, grown._ascending, grown._last

    def grown(self, new: Sequence[N]) -> Live[N]:
        if not new:
            return self
        ascending, last = self._ascending, self._last
        for item in new:
            if not self.by_seq:
                break
            if last is None or item.last_seq >= last.last_seq:
                last = item
            else:
                ascending = False
        return self._like(self._every.grown(new), self._dead, ascending, last)

    def without(self, paths: Collection[str]) -> tuple[Live[N], list[N]]:
        """Those left, and those that were removed. Raises KeyError with a path that isn't there."""
        wanted, found = set(paths), dict[str, int]()
        base = self._every.base
        if isinstance(base, Rows):
            found = {path: at for path in wanted if (at := base.index_of(path)) is not None}
        else:
            found = {item.path: at for at, item in enumerate(base) if item.path in wanted}
        for at, item in enumerate(self._every.tail, start=len(base)):
            if item.path in wanted:
                found[item.path] = at
        for path in paths:
            if path not in found or found[path] in self._dead:
                raise KeyError(path)
        removed = [self._every[at] for at in found.values()]
        rest = self._like(self._every, self._dead | frozenset(found.values()), self._ascending, None)
        rest._last = self._last
        if self.by_seq and self._last is not None and self._last.path in found:
            rest._last = max(rest._unordered(), key=lambda item: item.last_seq, default=None)
        return rest, removed

    def _like(self, every: History[N], dead: frozenset[int], ascending: bool, last: N | None) -> Live[N]:
        made: Live[N] = Live.__new__(Live)
        made.by_seq, made._every, made._dead, made._ascending, made._last = self.by_seq, every, dead, ascending, last
        made._places = None
        return made

    def _unordered(self) -> Iterator[N]:
        if not self._dead:
            return iter(self._every)
        return (item for at, item in enumerate(self._every) if at not in self._dead)

    def __len__(self) -> int:
        return len(self._every) - len(self._dead)

    def __iter__(self) -> Iterator[N]:
        found = self._unordered()
        return found if self._ascending else iter(sorted(found, key=lambda item: item.last_seq))

    def _at(self, index: int) -> N:
        if index == len(self) - 1 and self._last is not None and self.by_seq:
            return self._last
        if not self._dead and self._ascending:
            return self._every[index]
        if self._places is None:
            alive = np.ones(len(self._every), dtype=bool)
            alive[list(self._dead)] = False
            places = np.flatnonzero(alive)
            if not self._ascending:
                ends = np.fromiter((item.last_seq for item in self._unordered()), dtype=np.int64, count=len(places))
                places = places[np.argsort(ends, kind="stable")]
            self._places = places
        return self._every[int(self._places[index])]

    def arrow(self, schema: pa.Schema) -> pa.Table | None:
        """The rows of the base as they are if nothing else is to be said, for writing them again without building the
        items: (the base's table without removed rows, in order). None if order or items ask for more."""
        base = self._every.base
        if not isinstance(base, Rows) or not self._ascending or base.table.schema.names != schema.names:
            return None
        if not self._dead:
            return base.table
        alive = np.ones(len(base), dtype=bool)
        alive[[at for at in self._dead if at < len(base)]] = False
        return base.table.filter(pa.array(alive))

    @property
    def appended(self) -> list[N]:
        """The items behind the base that weren't removed."""
        first = len(self._every.base)
        return [item for at, item in enumerate(self._every.tail, start=first) if at not in self._dead]

    def __reduce__(self) -> tuple[object, ...]:
        return (_live, (list(self), self.by_seq))


def _live(items: list[N], by_seq: bool) -> Live[N]:
    return Live(items, by_seq=by_seq)
