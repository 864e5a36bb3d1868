"""GTIDs and sets of them, for MySQL (tags included) and MariaDB.

MySQL: `uuid:n` or `uuid:tag:n` (tags since 8.3), sets as `uuid:1-5:8:tag:1-2,uuid2:1`; a set may have holes. MariaDB:
`domain-server-sequence`; a position names the last GTID of each domain and stands for all before it in that domain.
Sources: MySQL manual, "GTID Format and Storage"; MariaDB knowledge base, "Global Transaction ID".
"""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import TypeAlias

_UUID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}")
_TAG = re.compile(r"[a-z_][a-z0-9_]{0,31}")
_MARIADB = re.compile(r"(\d+)-(\d+)-(\d+)")


class MySQLGtidSet:
    """A set of MySQL GTIDs as inclusive intervals per source (uuid, or uuid:tag). Mutable: `add` is O(1) for the usual
    case, the next number of a source."""

    def __init__(self) -> None:
        self._intervals: dict[str, list[list[int]]] = {}

    @staticmethod
    def parse(text: str) -> MySQLGtidSet:
        """Raises ValueError for anything that isn't a GTID set. The empty string is the empty set."""
        result = MySQLGtidSet()
        for part in re.split(r"[,\s]+", text.strip().lower()):
            if not part:
                continue
            uuid, *items = part.split(":")
            if not _UUID.fullmatch(uuid) or not items:
                raise ValueError(f"not a GTID set: {text!r}")
            source = uuid
            for item in items:
                if _TAG.fullmatch(item):
                    source = f"{uuid}:{item}"
                    continue
                first, _, last = item.partition("-")
                if not first.isdigit() or (last and not last.isdigit()):
                    raise ValueError(f"not a GTID set: {text!r}")
                result.add_interval(source, int(first), int(last or first))
        return result

    def add(self, gtid: str) -> None:
        source, _, number = gtid.rpartition(":")
        self.add_interval(source, int(number), int(number))

    def add_interval(self, source: str, first: int, last: int) -> None:
        """Add first..last, both inclusive."""
        if first < 1 or last < first:
            raise ValueError(f"not a GTID interval: {first}-{last}")
        spans = self._intervals.setdefault(source, [])
        if spans and spans[-1][0] <= first <= spans[-1][1] + 1:
            spans[-1][1] = max(spans[-1][1], last)
            return
        if not spans or first > spans[-1][1] + 1:
            spans.append([first, last])
            return
        spans.append([first, last])
        spans.sort()
        merged: list[list[int]] = []
        for span in spans:
            if merged and span[0] <= merged[-1][1] + 1:
                merged[-1][1] = max(merged[-1][1], span[1])
            else:
                merged.append(span)
        self._intervals[source] = merged

    def contains(self, gtid: str) -> bool:
        source, _, number = gtid.lower().rpartition(":")
        return self._covers(source, int(number), int(number))

    def overlaps(self, source: str, first: int, last: int) -> bool:
        """Whether any GTID of the source's first..last, both inclusive, is in the set."""
        spans = self._intervals.get(source, [])
        index = bisect_right(spans, last, key=lambda span: span[0]) - 1
        return index >= 0 and spans[index][1] >= first

    def issubset(self, other: MySQLGtidSet) -> bool:
        return all(
            other._covers(source, first, last) for source, spans in self._intervals.items() for first, last in spans
        )

    def union(self, other: MySQLGtidSet) -> MySQLGtidSet:
        result = self.copy()
        for source, spans in other._intervals.items():
            for first, last in spans:
                result.add_interval(source, first, last)
        return result

    def copy(self) -> MySQLGtidSet:
        result = MySQLGtidSet()
        result._intervals = {source: [list(s) for s in spans] for source, spans in self._intervals.items()}
        return result

    def _covers(self, source: str, first: int, last: int) -> bool:
        spans = self._intervals.get(source, [])
        index = bisect_right(spans, first, key=lambda span: span[0]) - 1
        return index >= 0 and spans[index][1] >= last

    def __bool__(self) -> bool:
        return bool(self._intervals)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MySQLGtidSet) and self._intervals == other._intervals

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        by_uuid: dict[str, list[str]] = {}
        for source in sorted(self._intervals):
            uuid, _, tag = source.partition(":")
            items = by_uuid.setdefault(uuid, [])
            if tag:
                items.append(tag)
            items.extend(str(a) if a == b else f"{a}-{b}" for a, b in self._intervals[source])
        return ",".join(f"{uuid}:{':'.join(items)}" for uuid, items in by_uuid.items())


class MariaDBGtidPosition:
    """The last GTID of each domain. Holds every GTID of a domain up to its sequence number."""

    def __init__(self) -> None:
        self._last: dict[int, tuple[int, int]] = {}  # domain -> (server_id, sequence)

    @staticmethod
    def parse(text: str) -> MariaDBGtidPosition:
        result = MariaDBGtidPosition()
        for part in re.split(r"[,\s]+", text.strip()):
            if part:
                result.add(part)
        return result

    def add(self, gtid: str) -> None:
        match = _MARIADB.fullmatch(gtid)
        if not match:
            raise ValueError(f"not a MariaDB GTID: {gtid!r}")
        domain, server_id, sequence = (int(g) for g in match.groups())
        if domain not in self._last or sequence >= self._last[domain][1]:
            self._last[domain] = (server_id, sequence)

    def contains(self, gtid: str) -> bool:
        match = _MARIADB.fullmatch(gtid)
        if not match:
            raise ValueError(f"not a MariaDB GTID: {gtid!r}")
        domain, sequence = int(match.group(1)), int(match.group(3))
        return domain in self._last and self._last[domain][1] >= sequence

    def issubset(self, other: MariaDBGtidPosition) -> bool:
        return all(
            domain in other._last and other._last[domain][1] >= sequence for domain, (_, sequence) in self._last.items()
        )

    def union(self, other: MariaDBGtidPosition) -> MariaDBGtidPosition:
        result = self.copy()
        for domain, (server_id, sequence) in other._last.items():
            result.add(f"{domain}-{server_id}-{sequence}")
        return result

    def copy(self) -> MariaDBGtidPosition:
        result = MariaDBGtidPosition()
        result._last = dict(self._last)
        return result

    def __bool__(self) -> bool:
        return bool(self._last)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MariaDBGtidPosition) and self._last == other._last

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        return ",".join(f"{d}-{server}-{n}" for d, (server, n) in sorted(self._last.items()))


GtidSet: TypeAlias = MySQLGtidSet | MariaDBGtidPosition


def parse_gtid_set(text: str, flavor: str) -> GtidSet:
    """flavor: "mysql" or "mariadb". Raises ValueError."""
    return MariaDBGtidPosition.parse(text) if flavor == "mariadb" else MySQLGtidSet.parse(text)


def is_subset(left: str, right: str, flavor: str) -> bool:
    """Whether every GTID of `left` is in `right`; both as text."""
    if flavor == "mariadb":
        return MariaDBGtidPosition.parse(left).issubset(MariaDBGtidPosition.parse(right))
    return MySQLGtidSet.parse(left).issubset(MySQLGtidSet.parse(right))


def is_gtid(text: str) -> bool:
    """Whether the text is one GTID of either flavor."""
    if _MARIADB.fullmatch(text):
        return True
    source, _, number = text.lower().rpartition(":")
    uuid, _, tag = source.partition(":")
    return number.isdigit() and bool(_UUID.fullmatch(uuid)) and (not tag or bool(_TAG.fullmatch(tag)))


def binlog_order(file: str, position: int) -> tuple[int, int]:
    """A sort key for positions: the binlog file's number (mysql-bin.000123 -> 123; it grows past six digits), offset."""
    return int(file.rpartition(".")[2]), position
