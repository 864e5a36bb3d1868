"""What every fault test ends with: is the archive exactly what the source committed?

`examine` compares the archive with the server and with the server's own mysqlbinlog, and returns what is wrong in words, so
that a test of a protocol broken on purpose can ask for the complaint. It takes from Rowback only the reading of log and
segments; the folding, the counting and the set arithmetic are its own.
"""

from __future__ import annotations

import re
import tempfile
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
from fold import Folded, selected
from rowback import Rowback

from recovery.archive.segments import read_segment, read_transactions
from recovery.archive.state import ArchiveState
from recovery.context import Context, open_context
from recovery.errors import RowbackError
from recovery.schema import Table
from testservers import Server

Read = list[tuple[Table, pa.Table]]  # definition and rows of segments
Counts = Counter[tuple[str, str]]  # (operation, quoted table) -> row changes
SYSTEM = ("mysql", "sys", "information_schema", "performance_schema")
SHOWN = 3  # complaints of one kind
# Event types (MariaDB's sql/log_event.h): behind these, ANNOTATE_ROWS, TABLE_MAP and rows, a transaction goes on.
MARIADB_GTID = 162
INSIDE = (19, 23, 24, 25, 160, 166, 167, 168)


@dataclass
class Found:
    """problems: empty if the archive is exact. The numbers say how much was compared."""

    problems: list[str] = field(default_factory=list)
    transactions: int = 0
    row_changes: int = 0
    tables: int = 0
    generations: int = 0
    gaps: int = 0

    def say(self, *complaints: str) -> None:
        self.problems.extend(complaints[:SHOWN])


def executed(source: Server) -> str:
    """The GTIDs that the source has run; what `examine` subtracts if it is taken before the first capture."""
    statement = "SELECT @@gtid_executed" if source.flavor == "mysql" else "SELECT @@gtid_binlog_pos"
    return str(source.execute(statement)[0][0])


def assert_exact(rowback: Rowback, source: Server, start: str, *, purged: bool = False) -> Found:
    found = examine(rowback, source, start, purged=purged)
    assert not found.problems, "\n".join(found.problems)
    return found


def examine(rowback: Rowback, source: Server, start: str, *, purged: bool = False) -> Found:
    """Compare. The capture began before any table had rows, is caught up and not running, and nobody writes to the source.

    start: `executed` before the first capture. purged: the source's first binlog files are gone, so mysqlbinlog can't count.
    """
    found = Found()
    try:
        context = open_context(rowback.config)
        state = context.log.read()
        found.generations, found.gaps = state.generation, len(state.holes)
        _check_transactions(found, context, state, source, start)
        read = in_order(context, state)
        _check_tables(found, read, source)
        if not purged:
            _check_counts(found, counted_by_mysqlbinlog(source), counted_in_archive(read))
        _check_verify(found, rowback)
    except (RowbackError, pa.ArrowInvalid, OSError) as error:
        found.say(f"the archive can't be read: {error}")
    return found


def _check_verify(found: Found, rowback: Rowback) -> None:
    """What `rowback verify --archive` says, which knows only the bucket."""
    done = rowback.run("verify", "--archive", check=False)
    if done.returncode:
        found.say(f"verify --archive ends with {done.returncode}: {done.stdout[-1500:]}{done.stderr[-1500:]}")


def _check_transactions(found: Found, context: Context, state: ArchiveState, source: Server, start: str) -> None:
    rows = [row for part in read_transactions(context.store, state.transactions) for row in part.to_pylist()]
    found.transactions = len(rows)
    if [row["seq"] for row in rows] != list(range(1, len(rows) + 1)):
        found.say(f"seq isn't 1 to {len(rows)} without a hole")
    if state.checkpoint is None or state.checkpoint.seq != len(rows):
        found.say(f"the checkpoint is {state.checkpoint}, and there are {len(rows)} transactions")
    gtids = Counter(row["gtid"] for row in rows if row["gtid"])
    found.say(*(f"{gtid} stands {n} times" for gtid, n in gtids.items() if n > 1))
    ours = {gtid for gtid in gtids if ":" in gtid or gtid.startswith("0-")}
    missing, more = expand(executed(source)) - expand(start) - ours, ours - expand(executed(source))
    if missing:
        found.say(f"{len(missing)} transactions of the source are missing, such as {min(missing)}")
    if more or ours & expand(start):
        found.say(f"transactions too many: {sorted(more | ours & expand(start))[:SHOWN]}")


def expand(gtid_set: str) -> set[str]:
    """Each GTID of a set in its own text: of MySQL, untagged or tagged; of MariaDB's position (domain-server-number) those
    of domain 0, where a server of the tests has written alone and numbered on from 1."""
    found: set[str] = set()
    for part in filter(None, (p.strip() for p in gtid_set.split(","))):
        if ":" not in part:
            origin, _, last = part.rpartition("-")
            if origin.startswith("0-"):
                found.update(f"{origin}-{n}" for n in range(1, int(last) + 1))
            continue
        uuid, *rest = part.split(":")
        prefix = uuid.lower()
        for item in rest:
            if re.fullmatch(r"\d+(-\d+)?", item):
                first, _, last = item.partition("-")
                found.update(f"{prefix}:{n}" for n in range(int(first), int(last or first) + 1))
            else:
                prefix = f"{uuid.lower()}:{item}"
    return found


def _check_tables(found: Found, read: Read, source: Server) -> None:
    """Fold each table and compare with SELECT."""
    folded: defaultdict[tuple[str, str], Folded] = defaultdict(Folded)
    tables = {}
    for table, images in read:
        name = (table.db, table.name)
        tables[name] = table
        folded[name].fold(table, images)
    excluded = ", ".join(f"'{db}'" for db in SYSTEM)
    live = source.execute(
        f"SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema NOT IN ({excluded})"
    )
    for name in map(tuple, live):
        if name not in tables:
            if source.execute("SELECT COUNT(*) FROM `{}`.`{}`".format(*(n.replace("`", "``") for n in name)))[0][0]:
                found.say(f"table {name} has rows, and the archive has none of it")
            continue
        found.tables += 1
        theirs, ours = selected(source, *name, tables[name].columns), folded[name].rows()
        found.say(*(f"{name}: {problem}" for problem in folded[name].problems))
        found.say(*(f"{name}: the archive lacks the row {row}" for row in theirs - ours))
        found.say(*(f"{name}: the archive has the row {row}, the source doesn't" for row in ours - theirs))


def in_order(context: Context, state: ArchiveState) -> Read:
    """Every change segment with its definition, by the place of its first image. Several at a time: a stand-in for S3 takes
    longer for each than to read it."""
    with ThreadPoolExecutor(4) as pool:
        rows = pool.map(lambda segment: read_segment(context.store, segment), state.segments)
        read = [(state.schemas[s.schema_id], images) for s, images in zip(state.segments, rows, strict=True)]
    return sorted(read, key=lambda pair: (pair[1]["_rb_seq"][0].as_py(), pair[1]["_rb_ordinal"][0].as_py()))


def _check_counts(found: Found, theirs: Counts, ours: Counts) -> None:
    found.row_changes = ours.total()
    for what in sorted(theirs.keys() | ours.keys()):
        if theirs[what] != ours[what]:
            found.say(f"mysqlbinlog counts {theirs[what]} times {what}, the archive has {ours[what]}")


def counted_by_mysqlbinlog(source: Server) -> Counts:
    """From mysqlbinlog's own decoding of the files. Rows of an XA transaction count when it commits."""
    with tempfile.TemporaryDirectory() as folder:
        files = [str(_without_tail(path, Path(folder))) for path in source.binlog_files()]
        command = source.mysqlbinlog_command("--verbose", "--base64-output=decode-rows", *files)
        printed = source.run(command).decode(errors="replace")
    total: Counts = Counter()
    group: Counts = Counter()
    prepared: dict[str, Counts] = {}
    for line in printed.split("\n"):
        if match := re.match(r"### (INSERT INTO|UPDATE|DELETE FROM) (.*)$", line):
            group[match[1].split()[0].lower(), match[2]] += 1
        elif match := re.match(r"XA PREPARE (\S+)", line):
            prepared[match[1]], group = group, Counter()
        elif match := re.match(r"XA (COMMIT|ROLLBACK) (\S+?)(?: ONE PHASE)?\s*$", line):
            rows = prepared.pop(match[2], Counter())
            total += rows if match[1] == "COMMIT" else Counter()
        elif line.startswith(("SET @@SESSION.GTID_NEXT", "COMMIT")) or re.match(r"#.*\bGTID\b", line):
            total += group
            group = Counter()
    return total + group


def _without_tail(path: Path, folder: Path) -> Path:
    """The file; where MariaDB died inside a transaction, a copy without it, which mysqlbinlog would stop at or count."""
    body = path.read_bytes()
    at, begun, kind = 4, 4, 0
    while at + 19 <= len(body) and at + (size := int.from_bytes(body[at + 9 : at + 13], "little")) <= len(body):
        kind = body[at + 4]
        begun = at if kind == MARIADB_GTID else begun
        at += size
    if at == len(body) and kind not in (MARIADB_GTID, *INSIDE):
        return path
    # The last whole transaction may be all there: then what is cut belongs to none that mysqlbinlog could print.
    copy = folder / path.name
    copy.write_bytes(body[: begun if kind in (MARIADB_GTID, *INSIDE) else at])
    return copy


def counted_in_archive(read: Read) -> Counts:
    counts: Counts = Counter()
    for table, images in read:
        operations = Counter(images["_rb_op"].to_pylist())
        name = "`{}`.`{}`".format(table.db, table.name.replace("`", "``"))
        for ours, theirs in (("insert", "insert"), ("update_after", "update"), ("delete", "delete")):
            if operations[ours]:
                counts[theirs, name] += operations[ours]
        assert operations["update_before"] == operations["update_after"]
    return counts
