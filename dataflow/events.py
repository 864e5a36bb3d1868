"""Binlog events: the header, and the few bodies that capture reads besides rows.

Sources of every offset: MySQL's libs/mysql/binlog/event/*.h and the manual's "Binary Log Event" pages; MariaDB's
sql/log_event.h. All integers are little endian unless said.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from recovery.archive.actions import Session
from recovery.charset import decode_statement
from recovery.errors import BinlogDamaged

QUERY: Final = 2
STOP: Final = 3
ROTATE: Final = 4
INTVAR: Final = 5
RAND: Final = 13
USER_VAR: Final = 14
FORMAT_DESCRIPTION: Final = 15
XID: Final = 16
BEGIN_LOAD_QUERY: Final = 17
EXECUTE_LOAD_QUERY: Final = 18
TABLE_MAP: Final = 19
WRITE_ROWS_V1: Final = 23
UPDATE_ROWS_V1: Final = 24
DELETE_ROWS_V1: Final = 25
INCIDENT: Final = 26
HEARTBEAT: Final = 27
ROWS_QUERY: Final = 29
WRITE_ROWS: Final = 30
UPDATE_ROWS: Final = 31
DELETE_ROWS: Final = 32
GTID: Final = 33
ANONYMOUS_GTID: Final = 34
PREVIOUS_GTIDS: Final = 35
VIEW_CHANGE: Final = 37
XA_PREPARE: Final = 38
PARTIAL_UPDATE_ROWS: Final = 39
TRANSACTION_PAYLOAD: Final = 40
HEARTBEAT_V2: Final = 41
GTID_TAGGED: Final = 42
MARIADB_BINLOG_CHECKPOINT: Final = 161
MARIADB_GTID: Final = 162
MARIADB_GTID_LIST: Final = 163
MARIADB_QUERY_COMPRESSED: Final = 165

# Group replication's mark of a change of its members; it changes no data.
IGNORED: Final = frozenset({VIEW_CHANGE})
NAMES: Final = {
    INTVAR: "statement-format DML (an INTVAR event)",
    RAND: "statement-format DML (a RAND event)",
    USER_VAR: "statement-format DML (a USER_VAR event)",
    BEGIN_LOAD_QUERY: "statement-format LOAD DATA",
    EXECUTE_LOAD_QUERY: "statement-format LOAD DATA",
    INCIDENT: "an INCIDENT event: the server itself lost binlog events here",
}

ARTIFICIAL_FLAG: Final = 0x20  # LOG_EVENT_ARTIFICIAL_F: made by the dump thread, not in the file
MARIADB_STANDALONE: Final = 1  # FL_STANDALONE: one statement, no COMMIT event follows
MARIADB_GROUP_COMMIT_ID: Final = 2
MARIADB_PREPARED_XA: Final = 64
MARIADB_COMPLETED_XA: Final = 128


@dataclass(frozen=True, slots=True)
class Event:
    """One event as sent. body: after the header, without the checksum. start: modulo 2**32, 0 if artificial. end: where the
    next one starts, modulo 2**32. size: in bytes, with header and checksum."""

    type: int
    timestamp: int
    server_id: int
    start: int
    end: int
    flags: int
    body: bytes
    size: int

    @property
    def artificial(self) -> bool:
        return bool(self.flags & ARTIFICIAL_FLAG) or self.end == 0


def format_checksummed(event: Event) -> bool:
    """Whether a FORMAT_DESCRIPTION event announces CRC32 (algorithm 1) or none (0): the byte before its own checksum."""
    algorithm = event.body[-1]
    if algorithm not in (0, 1):
        raise _damaged(f"unknown binlog checksum algorithm {algorithm}")
    return algorithm == 1


def logs_explicit_timestamps(event: Event) -> bool:
    """Whether a FORMAT_DESCRIPTION event is of a server that logs explicit_defaults_for_timestamp with statements as a flag:
    MariaDB since 10.10 (MDEV-29078). The version stands behind 2 bytes, with NUL at its end; that of the enterprise server
    has one more number."""
    found = re.match(rb"(?:5\.5\.5-)?(\d+)\.(\d+)\.\d+(?:-\d+)?-MariaDB", event.body[2:52])
    return found is not None and (int(found[1]), int(found[2])) >= (10, 10)


def rotate(event: Event) -> tuple[str, int]:
    """The next file and the position in it."""
    return event.body[8:].decode(), int.from_bytes(event.body[:8], "little")


def mysql_gtid(event: Event) -> str | None:
    """GTID and ANONYMOUS_GTID: flags 1, uuid 16, number 8, ... (the kernels and dataflow/pieces.py read the rest)."""
    if event.type == GTID_TAGGED:
        tagged = tagged_gtid(event)
        return f"{tagged.source}{tagged.number}"
    if event.type != GTID:
        return None
    return f"{uuid_text(event.body[1:17])}:{int.from_bytes(event.body[17:25], 'little', signed=True)}"


def original_commit_us(event: Event) -> int | None:
    """When a transaction was committed on the server where it began (original_commit_timestamp), which every replica keeps;
    None before MySQL 8.0.1. GTID and ANONYMOUS_GTID: immediate commit time 7 bytes at 42; its bit 55 says that the original
    one, 7 bytes, follows; else both are one (Gtid_event, control_events.cpp)."""
    if event.type == GTID_TAGGED:
        return tagged_gtid(event).original_us
    body = event.body
    if len(body) < 49:
        return None
    immediate = int.from_bytes(body[42:49], "little")
    if not immediate >> 55:
        return immediate
    return int.from_bytes(body[49:56], "little")


@dataclass(frozen=True, slots=True)
class TaggedGtid:
    """source: `<uuid>:<tag>:`. original_us: see `original_commit_us`."""

    source: str
    number: int
    sequence: int
    committed_at_us: int
    original_us: int


def tagged_gtid(event: Event) -> TaggedGtid:
    """GTID_TAGGED, in the format of libs/mysql/serialization/readme.md: version 1 byte, size, last field that may not be
    skipped, then fields by number, each behind its number (Gtid_event::define_fields): 0 flags, 1 uuid, 2 number, 3 tag,
    4 last committed, 5 sequence number, 6 and 7 commit times. Raises BinlogDamaged."""
    reader = _Serialized(event.body)
    uuid, tag = b"", ""
    number = sequence = committed_at_us = original_us = 0
    try:
        version = reader.unsigned()
        reader.unsigned()
        reader.unsigned()
        while reader.more():
            field = reader.unsigned()
            if field == 0:
                reader.unsigned()
            elif field == 1:
                uuid = bytes(reader.unsigned() for _ in range(16))
            elif field == 2:
                number = reader.signed()
            elif field == 3:
                tag = reader.raw(reader.unsigned()).decode()
            elif field == 4:
                reader.signed()
            elif field == 5:
                sequence = reader.signed()
            elif field == 6:
                committed_at_us = original_us = reader.unsigned()
                if reader.more() and reader.unsigned() == 7:  # left out where it is the same
                    original_us = reader.unsigned()
                break
            else:
                raise ValueError(f"field {field}")
    except (ValueError, IndexError) as error:
        raise _damaged(f"the tagged GTID event at {event.start} doesn't parse: {error}") from error
    if version != 1 or not uuid or number < 1 or not committed_at_us:
        raise _damaged(f"the tagged GTID event at {event.start} lacks a field")
    source = f"{uuid_text(uuid)}:{tag}:" if tag else f"{uuid_text(uuid)}:"
    return TaggedGtid(source, number, sequence, committed_at_us, original_us)


class _Serialized:
    """Numbers of 1 to 9 bytes: as many low ones in the first byte as bytes follow, then a zero and the value; after eight
    ones the value has 64 bits of its own. Signed ones keep their sign in the lowest bit."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def more(self) -> bool:
        return self._at < len(self._data)

    def raw(self, length: int) -> bytes:
        chunk = self._data[self._at : self._at + length]
        if len(chunk) != length:
            raise ValueError("it is cut short")
        self._at += length
        return chunk

    def unsigned(self) -> int:
        first = self._data[self._at]
        ones = 0
        while ones < 8 and first >> ones & 1:
            ones += 1
        raw = self.raw(min(ones, 8) + 1)
        if ones == 8:
            return int.from_bytes(raw[1:], "little")
        return int.from_bytes(raw, "little") >> (ones + 1)

    def signed(self) -> int:
        value = self.unsigned()
        return -(value >> 1) - 1 if value & 1 else value >> 1


@dataclass(frozen=True, slots=True)
class MariaDBGtid:
    """standalone: one statement, no COMMIT event follows. prepares: the xid whose rows follow and stay pending.
    alter_begins, alter_fails: START ALTER and ROLLBACK ALTER (binlog_alter_two_phase)."""

    domain: int
    number: int
    standalone: bool
    prepares: str | None
    alter_begins: bool
    alter_fails: bool


def mariadb_gtid(event: Event) -> MariaDBGtid:
    """MariaDB's GTID: sequence 8, domain 4, flags 1; then as the flags say a group commit id 8 and an xid (format 4, lengths
    1 and 1, bytes), and more flags 1 (Gtid_log_event in sql/log_event.h). Raises BinlogDamaged."""
    body = event.body
    try:
        number, domain, flags = struct.unpack_from("<QIB", body)
        at = 13 + (8 if flags & MARIADB_GROUP_COMMIT_ID else 0)
        xid = None
        if flags & (MARIADB_PREPARED_XA | MARIADB_COMPLETED_XA):
            form, first, second = struct.unpack_from("<iBB", body, at)
            at += 6
            xid = xid_text(form, body[at : at + first], body[at + first : at + first + second])
            at += first + second
        extra = body[at] if at < len(body) else 0
    except struct.error as error:
        raise _damaged(f"the GTID event at {event.start} doesn't parse: {error}") from error
    prepares = xid if flags & MARIADB_PREPARED_XA else None
    standalone = bool(flags & MARIADB_STANDALONE)
    return MariaDBGtid(domain, number, standalone, prepares, bool(extra & 2), bool(extra & 8))


def mariadb_gtid_text(event: Event) -> str:
    number, domain = struct.unpack_from("<QI", event.body)
    return f"{domain}-{event.server_id}-{number}"


def xid_text(form: int, gtrid: bytes, bqual: bytes) -> str:
    """As the servers print an xid in the binlog (serialize_xid in MySQL's sql/xa.cc, XID::serialize in MariaDB's)."""
    return f"X'{gtrid.hex()}',X'{bqual.hex()}',{form}"


def mariadb_gtid_list(event: Event) -> list[str]:
    """GTIDs in a GTID_LIST: count 4 (low 28 bits), then domain 4, server 4, sequence 8 each."""
    count = int.from_bytes(event.body[:4], "little") & 0x0FFFFFFF
    found = (struct.unpack_from("<IIQ", event.body, 4 + 16 * i) for i in range(count))
    return [f"{domain}-{server}-{sequence}" for domain, server, sequence in found]


def previous_gtids(event: Event) -> str:
    """PREVIOUS_GTIDS as a GTID set's text (MySQL's Gtid_set::encode).

    Untagged: source count 8, then per source uuid 16, interval count 8, and (first, past the end) 8+8 each. Since 8.3 the
    count's highest byte 1 marks the tagged form: its lowest byte repeats the 1, the count stands in the 48 bits between,
    and each uuid is followed by its tag (length in one byte, doubled, then the text).
    """
    body = event.body
    header = int.from_bytes(body[:8], "little")
    tagged = header >> 56 == 1
    count = (header >> 8) & ((1 << 48) - 1) if tagged else header
    at, parts = 8, []
    for _ in range(count):
        source = uuid_text(body[at : at + 16])
        at += 16
        if tagged:
            length = body[at] >> 1
            tag = body[at + 1 : at + 1 + length].decode()
            at += 1 + length
            source = f"{source}:{tag}" if tag else source
        intervals = int.from_bytes(body[at : at + 8], "little")
        at += 8
        for _ in range(intervals):
            first, past = struct.unpack_from("<QQ", body, at)
            at += 16
            parts.append(f"{source}:{first}-{past - 1}")
    if at != len(body):
        raise _damaged("a PREVIOUS_GTIDS event has an unexpected length")
    return ",".join(parts)


@dataclass(frozen=True, slots=True)
class QueryEvent:
    """exact: the statement could be decoded; else it is only for showing. session: None if the event doesn't tell all."""

    connection_id: int
    db: str
    statement: str
    exact: bool
    session: Session | None = None


def query(
    body: bytes, charsets: Mapping[int, str], timestamp_s: int = 0, *, explicit_timestamps: bool = False
) -> QueryEvent:
    """QUERY: thread 4, seconds 4, db length 1, error 2, status length 2; status variables; db, NUL, statement.

    The statement is in the client's character set, which status variable 4 names by collation id; charsets: the server's
    names for these ids. timestamp_s: of the event's header. explicit_timestamps: see logs_explicit_timestamps.
    """
    if len(body) < 13:
        raise _damaged("a QUERY event is cut short")
    thread, _, db_length, _, status_length = struct.unpack_from("<IIBHH", body)
    status = body[13 : 13 + status_length]
    at = 13 + status_length
    db = body[at : at + db_length]
    text = body[at + db_length + 1 :]
    variables, whole = _status_variables(status)
    try:
        statement = _text(text, charsets.get(_client_collation(variables), ""))
        session = _session(variables, charsets, timestamp_s, explicit_timestamps=explicit_timestamps)
        session = session if whole or session is None else replace(session, complete=False)
        return QueryEvent(thread, db.decode(), statement, exact=True, session=session)
    except ValueError:
        shown = text.decode("ascii", errors="backslashreplace")
        return QueryEvent(thread, db.decode("ascii", errors="backslashreplace"), shown, exact=False)


def _text(raw: bytes, charset: str) -> str:
    """Raises ValueError if it can't be told what the servers read."""
    codec = _CODECS.get(charset)
    return decode_statement(raw, charset) if codec is None else raw.decode(codec)


_CODECS: Final = {"utf8mb4": "utf-8", "utf8mb3": "utf-8", "utf8": "utf-8", "binary": "utf-8", "ascii": "ascii"}
_UTF8MB4: Final = 45  # utf8mb4_general_ci, if the event doesn't say


# Status variables of a QUERY event (Query_event::Query_event_status_vars of MySQL, Q_*_CODE of MariaDB) and their lengths;
# 5, 6, 11, 12, 130 and 131 tell theirs themselves. 128 to 131 are MariaDB's.
_FLAGS, _SQL_MODE, _NUMBERING, _CHARSET, _TIME_ZONE, _INVOKER = 0, 1, 3, 4, 5, 11
_MICROSECONDS, _EXPLICIT_TIMESTAMPS, _MICROSECONDS_MARIADB, _GTID_FLAGS, _COLLATIONS = 13, 16, 128, 130, 131
_LENGTHS: Final = {
    _FLAGS: 4, _SQL_MODE: 8, _NUMBERING: 4, _CHARSET: 6, 7: 2, 8: 2, 9: 8, 10: 4, _MICROSECONDS: 3,
    _EXPLICIT_TIMESTAMPS: 1, 17: 8, 18: 2, 19: 1, 20: 1, _MICROSECONDS_MARIADB: 3, 129: 8,
}  # fmt: skip
_EXPLICIT_TIMESTAMPS_FLAG: Final = 1 << 24  # of MariaDB

# lc_time_names en_US, explicit_defaults_for_timestamp ON, default_collation_for_utf8mb4 utf8mb4_0900_ai_ci, and
# default_table_encryption OFF: what a Session doesn't have, and is taken for granted.
_USUAL: Final = {7: b"\0\0", _EXPLICIT_TIMESTAMPS: b"\1", 18: b"\xff\0", 20: b"\0"}


def _status_variables(status: bytes) -> tuple[dict[int, bytes], bool]:
    """The variables up to the first one that isn't known, and whether these are all; those that a session has always come
    first."""
    found: dict[int, bytes] = {}
    at = 0
    while at < len(status):
        code, start = status[at], at + 1
        if code in _LENGTHS:
            at = start + _LENGTHS[code]
        elif start >= len(status):
            return found, False
        elif code in (_TIME_ZONE, 6):
            at = start + 1 + status[start]
        elif code == _INVOKER:
            at = start + 1 + status[start]
            at += 1 + (status[at] if at < len(status) else 0)
        elif code == 12:  # databases: a count (254: too many to name), each ended by NUL
            at = start + 1
            for _ in range(status[start] if status[start] != 254 else 0):
                at = (status.find(b"\0", at) + 1) or len(status) + 1
        elif code == _COLLATIONS:  # character_set_collations, since 11.5: a count, and four bytes for each
            at = start + 1 + 4 * status[start]
        elif code == _GTID_FLAGS:  # Q_GTID_FLAGS3: a commit or rollback of an ALTER in two phases has its number, too
            at = start + (9 if status[start] & 12 else 1)
        else:
            return found, False
        if at > len(status):
            raise _damaged("a QUERY event's status variables are cut short")
        found[code] = status[start:at]
    return found, True


def _client_collation(variables: Mapping[int, bytes]) -> int:
    """The collation id of the client's character set."""
    return int.from_bytes(variables[_CHARSET][:2], "little") if _CHARSET in variables else _UTF8MB4


def _session(
    variables: Mapping[int, bytes], charsets: Mapping[int, str], timestamp_s: int, *, explicit_timestamps: bool
) -> Session | None:
    if _SQL_MODE not in variables or _CHARSET not in variables:
        return None
    client, collation, server = struct.unpack("<HHH", variables[_CHARSET])
    increment, offset = struct.unpack("<HH", variables.get(_NUMBERING, b"\1\0\1\0"))  # not in the event if both are 1
    invoker, zone = variables.get(_INVOKER), variables.get(_TIME_ZONE)
    fraction = variables.get(_MICROSECONDS) or variables.get(_MICROSECONDS_MARIADB) or b""
    return Session(
        sql_mode=int.from_bytes(variables[_SQL_MODE], "little"),
        charset=charsets.get(client, ""),
        collation=collation,
        server_collation=server,
        time_zone=None if zone is None else zone[1:].decode(),
        invoker=None if invoker is None else _account(invoker),
        started_at_us=timestamp_s * 1_000_000 + int.from_bytes(fraction, "little"),
        numbering=(increment, offset),
        complete=all(variables.get(code, usual) == usual for code, usual in _USUAL.items()),
        explicit_timestamps=_explicit_timestamps(variables, flagged=explicit_timestamps),
    )


def _explicit_timestamps(variables: Mapping[int, bytes], *, flagged: bool) -> bool | None:
    if _EXPLICIT_TIMESTAMPS in variables:
        return variables[_EXPLICIT_TIMESTAMPS] == b"\1"
    if flagged and _FLAGS in variables:
        return bool(int.from_bytes(variables[_FLAGS], "little") & _EXPLICIT_TIMESTAMPS_FLAG)
    return None


def _account(raw: bytes) -> tuple[str, str]:
    """User and host, each behind its length; both in UTF-8."""
    end = 1 + raw[0]
    return raw[1:end].decode(), raw[end + 1 :].decode()


def uuid_text(raw: bytes) -> str:
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _damaged(what: str) -> BinlogDamaged:
    return BinlogDamaged(
        what,
        hint="Run `mysqlbinlog --verify-binlog-checksum` on the source's file; if it is sound, the network bent it: retry.",
    )
