"""The files of a restore that create views, triggers, routines and events: one content in two spellings.

    <db>-schema-post.sql    for myloader, which loads it when all data is in; it ends a statement at a semicolon before a
                            line's end, so a line of a body that ends so gets a space, as mydumper writes it
    load-objects.mysql      for the plain client, with DELIMITER; the texts are exact

Each database has a myloader file of its own, unless a view reads another database's: then one file has everything, for
myloader takes the files in no order. Bytes are in each object's own client character set, so the files are no text of
one encoding.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, Final

from recovery.objects.load import LoadStatement
from recovery.objects.plan import ObjectPlan, PlannedObject

CLIENT_FILE: Final = "load-objects.mysql"
_LINE_END: Final = re.compile(rb";(?=\n)")


def groups(plan: ObjectPlan) -> dict[str, list[PlannedObject]]:
    """The objects by the database whose file has them."""
    found: dict[str, list[PlannedObject]] = {}
    for one in plan.objects:
        found.setdefault(plan.objects[0].db if plan.crossing else one.db, []).append(one)
    return found


def objects_manifest(plan: ObjectPlan) -> dict[str, Any]:
    """What the restore's manifest says of them; of those left out with their last known definition."""
    return {
        "objects": plan.listed(),
        "left_out": [asdict(o) for o in plan.left_out],
    }


def for_client(plan: ObjectPlan) -> bytes:
    head = (
        "-- Views, triggers, routines and events: after the tables and their data. load.mysql runs this file, too.\n"
        "-- On its own:  mysql --comments --binary-mode < load-objects.mysql\n"
    )
    texts = b"\n".join(s.body for o in plan.objects for s in o.statements)
    number = next(n for n in range(1 << 30) if f"${n}$".encode() not in texts)
    mark = f"${number}$"
    out = [head.encode()]
    for piece in _pieces(plan.objects, dict(plan.clauses), ""):
        if isinstance(piece, str):
            out.append(f"{piece};\n".encode())
        else:
            out.append(f"DELIMITER {mark}\n".encode() + piece.body + f"\n{mark}\nDELIMITER ;\n".encode())
    return b"".join(out)


def for_myloader(plan: ObjectPlan, objects: Sequence[PlannedObject], db: str) -> bytes:
    """db: the database that myloader is in when it begins."""
    out = []
    for piece in _pieces(objects, dict(plan.clauses), db):
        body = piece.encode() if isinstance(piece, str) else _LINE_END.sub(b"; ", piece.body)
        out.append(body + b";\n")
    return b"".join(out)


def _pieces(objects: Iterable[PlannedObject], clauses: dict[str, str], db: str) -> Iterator[str | LoadStatement]:
    """Settings as text, and statements."""
    now: dict[str, str] = {}
    defaults = dict(clauses)

    def settings(wanted: dict[str, str]) -> Iterator[str]:
        for name, value in wanted.items():
            if now.get(name) != value:
                now[name] = value
                yield f"SET {name} = {value}"

    for one in objects:
        clause = one.clause or clauses.get(one.db, "")
        if clause != defaults.get(one.db, "") and clause:
            yield from settings(_OWN)
            yield f"ALTER DATABASE {_quoted(one.db)} {clause}"
            defaults[one.db] = clause
        for statement in one.statements:
            if statement.db != db:
                db = statement.db
                yield from settings(_OWN)
                yield f"USE {_quoted(db)}"
            yield from settings(_settings(statement))
            yield statement
    yield from settings({name: value for name, value in _RESET.items() if name in now})
    for name, clause in clauses.items():
        if clause and clause != defaults.get(name, ""):
            yield f"ALTER DATABASE {_quoted(name)} {clause}"


_OWN: Final = {"character_set_client": "utf8mb4"}  # of names that these files spell
_RESET: Final = {
    "timestamp": "DEFAULT", "time_zone": "DEFAULT", "sql_mode": "DEFAULT", "character_set_client": "utf8mb4",
    "collation_connection": "DEFAULT",
}  # fmt: skip


def _settings(statement: LoadStatement) -> dict[str, str]:
    found = {
        "character_set_client": statement.charset,
        "collation_connection": statement.collation,
        "sql_mode": statement.sql_mode,
    }
    if statement.time_zone is not None:
        found["time_zone"] = "'" + statement.time_zone.replace("'", "''") + "'"
    if statement.at_us is not None:
        found["timestamp"] = f"{statement.at_us // 1_000_000}.{statement.at_us % 1_000_000:06d}"
    return found


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
