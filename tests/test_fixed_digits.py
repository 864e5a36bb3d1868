"""FLOAT(M,D) and DOUBLE(M,D): the condition over rows says what the computed value says. What servers store is in
tests/test_defaults.py."""

from __future__ import annotations

import math
import random

import duckdb
import pytest

from recovery.fixed_digits import FixedDigits, as_stored


@pytest.mark.parametrize("kind", ["float", "double"])
def test_a_value_passes_if_storing_it_leaves_it_alone(kind: str) -> None:
    rng = random.Random(7)
    with duckdb.connect() as connection:
        for digits, scale in ((5, 2), (10, 2), (6, 0), (30, 10), (255, 30)):
            fixed = FixedDigits(kind, digits, scale)
            values = [0.0, -0.0, 1.005, -1.005, 1.25, 2.675, 999.99, 1000.0, 1e15, -0.001, 1e-30]
            values += [round(rng.uniform(-2000, 2000), rng.randrange(4)) for _ in range(500)]
            values = [held for value in values if (held := as_stored(kind, value)) is not None]
            connection.execute(f"CREATE OR REPLACE TABLE t (n INT, v {kind.upper()})")
            connection.executemany("INSERT INTO t VALUES (?, ?)", list(enumerate(values)))
            changed = {n for (n,) in connection.execute(f"SELECT n FROM t WHERE {fixed.changes('v')}").fetchall()}
            for n, value in enumerate(values):
                shifted = (value - math.floor(value)) * 10.0**scale
                if shifted - math.floor(shifted) == 0.5:
                    assert n in changed
                    continue
                same = fixed.stored(value)
                signs = same is not None and math.copysign(1, same) == math.copysign(1, value)
                assert (n not in changed) == (same == value and signs), (fixed, value, same)


def test_what_does_not_fit_is_not_known() -> None:
    assert FixedDigits("double", 5, 2).stored(1.005) == 1.0
    assert FixedDigits("double", 5, 2).stored(999.99) == 999.99
    assert FixedDigits("double", 5, 2).stored(1000) is None
    assert FixedDigits("float", 60, 2).stored(1e39) is None
    assert as_stored("double", math.inf) is None
