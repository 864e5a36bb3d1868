"""Random tables with random values through a real server: the archive's row images, applied in order, are what SELECT
shows; and bent row events never crash the process or read out of bounds.

ROWBACK_PROPERTY_TABLES and ROWBACK_FUZZ_ROUNDS ask for more than the suite's share.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rowevents import row_events
from rowstory import Image, Row, Run, images, in_stretches, require_equal, require_same, shape, whole
from typematrix import cases

from dataflow.rows import DELETE, INSERT, UPDATE_AFTER, UPDATE_BEFORE
from testservers import Server

TABLES = int(os.environ.get("ROWBACK_PROPERTY_TABLES", "10"))
FUZZ_ROUNDS = int(os.environ.get("ROWBACK_FUZZ_ROUNDS", "2500"))


@pytest.fixture(params=["mysql", "mariadb"])
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(f"{request.param}_source")
    return found


@pytest.fixture
def run(server: Server, unique_name: Callable[[str], str]) -> Iterator[Run]:
    run = Run(server, unique_name("random"))
    with contextlib.closing(run.connection):
        yield run


# --- random values as SQL ---------------------------------------------------------------------------------------------


def _number(rng: random.Random) -> str:
    digits = rng.choice((1, 3, 5, 10, 19, 20, 38, 60))
    sign, point = rng.choice(("", "-")), rng.choice(("", f".{rng.randrange(10 ** rng.randrange(1, 31))}"))
    return f"'{sign}{rng.randrange(10**digits)}{point}'"


def _float(rng: random.Random) -> str:
    return repr(
        rng.choice((rng.uniform(-1, 1), rng.uniform(-1e38, 1e38), rng.gauss(0, 1e5), float(rng.randrange(1 << 60))))
    )


def _text(rng: random.Random) -> str:
    ranges = ((0x20, 0x7F), (0, 0x100), (0x100, 0xD800), (0xE000, 0xFFFF), (0x10000, 0x110000))
    low, high = rng.choice(ranges)
    text = "".join(chr(rng.randrange(low, high)) for _ in range(rng.choice((0, 1, 2, 5, 20, 40, 200))))
    return f"_utf8mb4 X'{text.encode().hex()}'"


def _bytes(rng: random.Random) -> str:
    raw = rng.randbytes(rng.choice((0, 1, 2, 8, 30, 255, 256, 1000))) + bytes(rng.choice((0, 0, 1, 5)))
    return f"X'{raw.hex()}'"


def _day(rng: random.Random) -> str:
    year = rng.choice((0, 1, 1000, 1969, 1970, 2000, 2026, 2038, 9999, rng.randrange(10000)))
    return f"{year:04}-{rng.randrange(13):02}-{rng.randrange(32):02}"


def _moment(rng: random.Random) -> str:
    clock = f"{rng.randrange(24):02}:{rng.randrange(60):02}:{rng.randrange(60):02}.{rng.randrange(10**6):06}"
    return f"'{_day(rng)} {clock}'"


def _time(rng: random.Random) -> str:
    clock = f"{rng.randrange(839)}:{rng.randrange(60):02}:{rng.randrange(60):02}.{rng.randrange(10**6):06}"
    return f"'{rng.choice(('', '-'))}{clock}'"


_VALUES: dict[str, Callable[[random.Random], str]] = {
    "decimal": _number, "float": _float, "double": _float, "char": _text, "varchar": _text, "text": _text, "blob": _bytes,
    "binary": _bytes, "varbinary": _bytes, "date": lambda rng: f"'{_day(rng)}'", "datetime": _moment, "timestamp": _moment,
    "time": _time, "year": lambda rng: str(rng.choice((0, 1901, 2155, rng.randrange(1901, 2156)))),
}  # fmt: skip


def value(case: Any, rng: random.Random) -> str:
    """NULL, one of the matrix's edge values, or a random one of the type's family."""
    if rng.random() < 0.15:
        return "NULL"
    family = case.ddl.split("(")[0].split()[0].lower().removeprefix("tiny").removeprefix("medium").removeprefix("long")
    random_value = _VALUES.get(family)
    if random_value is None or rng.random() < 0.3:
        return str(rng.choice(case.values))
    return random_value(rng)


# --- the property -----------------------------------------------------------------------------------------------------


def fill(run: Run, name: str, rng: random.Random, pool: list[Any]) -> list[Row]:
    """A table of random columns, changed at random; its rows in the end."""
    chosen = [rng.choice(pool) for _ in range(rng.choice((1, 2, 4, 8, 17)))]
    at = rng.randrange(len(chosen) + 1)
    ddl = [f"c{i} {case.ddl} NULL" for i, case in enumerate(chosen)]
    ddl.insert(at, f"id INT NOT NULL{rng.choice(('', ' PRIMARY KEY', ' PRIMARY KEY'))}")
    run.do(f"CREATE TABLE {name} ({', '.join(ddl)}) CHARACTER SET utf8mb4 ROW_FORMAT=DYNAMIC")
    names = ", ".join(["id", *(f"c{i}" for i in range(len(chosen)))])
    keys = list(range(30))
    for start in range(0, 30, 10):
        rows = [f"({k}, {', '.join(value(c, rng) for c in chosen)})" for k in keys[start : start + 10]]
        run.do(f"INSERT INTO {name} ({names}) VALUES {', '.join(rows)}")
    for _ in range(12):
        some = ", ".join(map(str, rng.sample(range(40), 5)))
        kind = rng.random()
        if kind < 0.7:
            changed = rng.sample(range(len(chosen)), rng.randint(1, len(chosen)))
            sets = ", ".join(f"c{i} = {value(chosen[i], rng)}" for i in changed)
            run.do(f"UPDATE {name} SET {sets} WHERE id IN ({some})")
        elif kind < 0.85:
            run.do(f"UPDATE {name} SET id = id + 40 WHERE id IN ({some})")
        else:
            run.do(f"DELETE FROM {name} WHERE id IN ({some})")
    return run.select(name, shape(run, name))


@pytest.mark.sockets
def test_images_applied_in_order_are_what_select_shows(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    seed = int(os.environ.get("ROWBACK_PROPERTY_SEED", random.randrange(10**9)))
    print(f"ROWBACK_PROPERTY_SEED={seed}")
    rng = random.Random(seed)
    # A row may not be wider than 64 KiB; SELECT shows UUID and INET as text, and only a live schema knows them.
    wide = ("REPEAT", "VECTOR(16383)")
    pool = [
        c
        for c in cases(run.server.flavor)
        if (c.kind is None and not any(w in str(c) for w in wide)) or c.ddl == "TEXT"
    ]
    ended = {f"r{i}": fill(run, f"r{i}", rng, pool) for i in range(TABLES)}
    found = row_events(run.server, run.database, run.names)
    for name, rows in ended.items():
        for events in found[name]:
            table = events.table_map.table
            key = next(i for i, c in enumerate(table.columns) if c.name == "id")
            state: dict[Any, Image] = {}
            decoded = events.decode()
            require_same(decoded, in_stretches(events, monkeypatch))
            applied = images(decoded, table)
            for i, image in enumerate(applied):
                if image.op == INSERT:
                    state[image.cells[key][0]] = image
                elif image.op == DELETE:
                    assert state.pop(image.cells[key][0]).cells == image.cells
                elif image.op == UPDATE_BEFORE:
                    assert state.pop(image.cells[key][0]).cells == whole(image, applied[i + 1], table).cells
                else:
                    assert image.op == UPDATE_AFTER
                    state[image.cells[key][0]] = image
            assert sorted(state) == sorted(int(row[key][0]) for row in rows)
            for row in rows:
                require_equal(state[int(row[key][0])], row, table)


@pytest.mark.sockets
def test_bent_row_events_give_a_fault_or_an_answer(run: Run, tmp_path: Path) -> None:
    rng = random.Random(7)
    pool = [c for c in cases(run.server.flavor) if c.kind is None and "REPEAT" not in str(c)]
    for i in range(6):
        fill(run, f"f{i}", rng, pool)
    tables = [events for found in row_events(run.server, run.database, run.names).values() for events in found]
    (tmp_path / "events").write_bytes(pickle.dumps((tables, run.names, run.server.flavor)))
    seed = os.environ.get("ROWBACK_FUZZ_SEED", str(random.randrange(10**9)))
    command = [sys.executable, str(Path(__file__).with_name("fuzzrows.py")), str(tmp_path / "events"), seed]
    done = subprocess.run(
        [*command, str(FUZZ_ROUNDS)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "MALLOC_CHECK_": "3"},
        check=False,
    )
    assert done.returncode == 0, f"seed {seed}: exit {done.returncode}\n{done.stderr[-3000:]}"
    counts = json.loads(done.stdout)
    assert counts["fault"] > FUZZ_ROUNDS // 10
    assert counts["answer"] > FUZZ_ROUNDS // 100
    assert counts["refused"] > 0
