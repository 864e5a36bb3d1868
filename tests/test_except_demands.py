"""`--except` where the rows without the transaction meet what their table demands, on real servers: unique keys under their
collations, generated columns, CHECK constraints, partitions. What is restored loads and is what the same SQL makes on a
second server without the transaction; what isn't is refused by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import provide
from oracle import load_with_client
from rowback import Rowback
from test_except import run_all

from recovery.context import open_context
from recovery.errors import NotComputable
from recovery.restore import RestoreRequest, restore
from testservers import MariaDBServer, MySQLServer, Server

TEXTS = "CREATE TABLE t (id INT PRIMARY KEY, u VARCHAR(9) COLLATE utf8mb4_general_ci, n INT{}) DEFAULT CHARSET utf8mb4"
LATIN = TEXTS.format(", UNIQUE KEY (u)").replace("utf8mb4_general", "latin1_swedish").replace("utf8mb4", "latin1")
TEXT_ROWS = "INSERT INTO t VALUES (1, 'a', 1), (2, 'é', 2), (3, 'x', 3)"
WORDS = "CREATE TABLE t (k VARCHAR(9) PRIMARY KEY, n INT) DEFAULT CHARSET latin1 COLLATE latin1_swedish_ci"
WORD_ROWS = "INSERT INTO t VALUES ('o', 1), ('ö', 2), ('x', 3)"
NUMBERS = "CREATE TABLE t (id INT PRIMARY KEY, a INT, b INT{})"
NUMBER_ROWS = "INSERT INTO t (id, a, b) VALUES (1, 1, 1), (2, 2, 2), (3, 3, 3)"
RANGES = " PARTITION BY RANGE (id) (PARTITION p VALUES LESS THAN (3), PARTITION q VALUES LESS THAN (9))"
YEARS = (
    "CREATE TABLE t (id INT, at DATE, n INT, PRIMARY KEY (id, at)) PARTITION BY RANGE (YEAR(at)) "
    "(PARTITION p VALUES LESS THAN (2020), PARTITION q VALUES LESS THAN (2030))"
)
# What a table demands of its rows: its definition and rows; the transaction that is left out; what came later; what is said,
# None where the restore loads and has what the same SQL makes without the transaction.
DEMANDS: dict[str, tuple[tuple[str, ...], str, tuple[str, ...], str | None]] = {
    "unique_later": (
        (NUMBERS.format(""), NUMBER_ROWS), "DELETE FROM t WHERE id = 2",
        ("INSERT INTO t VALUES (4, 2, 4)", "ALTER TABLE t ADD UNIQUE KEY (a)"),
        r"same values \(2\) .* since `ALTER TABLE t ADD UNIQUE",
    ),
    "unique_later_fits": (
        (NUMBERS.format(""), NUMBER_ROWS), "DELETE FROM t WHERE id = 2",
        ("INSERT INTO t VALUES (4, 4, 4)", "CREATE UNIQUE INDEX i ON t (a, b)"), None,
    ),
    "unique_dropped": (
        (NUMBERS.format(", UNIQUE KEY u (a)"), NUMBER_ROWS), "DELETE FROM t WHERE id = 2",
        ("ALTER TABLE t DROP INDEX u", "INSERT INTO t VALUES (4, 2, 4)"), None,
    ),
    "unique_text": (
        (TEXTS.format(", UNIQUE KEY (u)"), TEXT_ROWS), "DELETE FROM t WHERE id = 2",
        ("INSERT INTO t VALUES (4, 'E ', 4)",),
        r"`é` and `E `\) of its unique key `u` \(u\) under `utf8mb4_general_ci`",
    ),
    "unique_text_fits": (  # 'o' and 'ö' stood beside each other before
        (LATIN, "INSERT INTO t VALUES (1, 'o', 1), (2, 'ö', 2)"), "DELETE FROM t WHERE id = 1",
        ("UPDATE t SET n = 5 WHERE id = 2", "INSERT INTO t VALUES (4, 'x', 4)"), None,
    ),
    "unique_bytes": (
        (TEXTS.format(", UNIQUE KEY (u)").replace("general_ci", "bin"), TEXT_ROWS), "DELETE FROM t WHERE id = 1",
        ("INSERT INTO t VALUES (4, 'A', 4)",), None,
    ),
    "unique_prefix": (
        (TEXTS.format(", UNIQUE KEY (u(2))"), "INSERT INTO t VALUES (1, 'abc', 1)"), "DELETE FROM t",
        ("INSERT INTO t VALUES (4, 'abd', 4)",), r"unique key `u` \(u\)",
    ),
    "stored": (
        (NUMBERS.format(", g INT AS (a * 2) STORED, UNIQUE KEY (g)"), NUMBER_ROWS), "UPDATE t SET a = 50 WHERE id = 1",
        ("UPDATE t SET a = 1 WHERE id = 2",), r"same values \(2\) of its unique key `g`",
    ),
    "virtual": (
        (NUMBERS.format(", g INT AS (a - b) VIRTUAL, UNIQUE KEY (g, a)"), NUMBER_ROWS), "UPDATE t SET a = 50 WHERE id = 1",
        ("INSERT INTO t (id, a, b) VALUES (4, 1, 2)",), None,
    ),
    "virtual_text": (
        (
            TEXTS.format(", g VARCHAR(9) AS (CONCAT('-', u)) VIRTUAL, UNIQUE KEY (g)"),
            TEXT_ROWS.replace("t V", "t (id, u, n) V"),
        ),
        "DELETE FROM t WHERE id = 1", ("INSERT INTO t (id, u, n) VALUES (4, 'a', 4)",),
        r"unique key `g` \(g\) .* those of `1`, and what they are can't be computed",
    ),
    "key_text": (
        (WORDS, WORD_ROWS), "UPDATE t SET k = 'X' WHERE k = 'x'", ("UPDATE t SET n = 5 WHERE k = 'x'",),
        r"changed the row `X` \(update\), .* `x` is there: under .* that may be the same key",
    ),
    "key_text_again": (
        (WORDS, WORD_ROWS), "DELETE FROM t WHERE k = 'x'", ("INSERT INTO t VALUES ('X ', 5)",),
        r"`x` is there: under ",
    ),
    "key_text_fits": ((WORDS, WORD_ROWS), "DELETE FROM t WHERE k <> 'ö'", ("INSERT INTO t VALUES ('z', 5)",), None),
    "key_text_unsaid": (
        (WORDS, WORD_ROWS), "DELETE FROM t", ("INSERT INTO t VALUES ('z', 5)",), r"`ö` is there: under ",
    ),
    "check_later": (
        (NUMBERS.format(""), NUMBER_ROWS), "DELETE FROM t WHERE id = 3", ("ALTER TABLE t ADD CONSTRAINT c CHECK (a < 3)",),
        r"rows \(`3`\) that violate its check constraint `c` \(a < 3\) .* since `ALTER TABLE t ADD CONSTRAINT c",
    ),
    "check_later_fits": (
        (NUMBERS.format(""), NUMBER_ROWS), "DELETE FROM t WHERE id = 3",
        ("ALTER TABLE t ADD CONSTRAINT c CHECK (a < 9)",), None,
    ),
    "check": (
        (NUMBERS.format(", CONSTRAINT c CHECK (a <= b)"), NUMBER_ROWS), "UPDATE t SET a = -2 WHERE id = 3",
        ("UPDATE t SET b = 1 WHERE id = 3",), r"rows \(`3`\) that violate its check constraint `c`",
    ),
    "check_fits": (
        (TEXTS.format(", CHECK (u <> 'q')"), TEXT_ROWS), "UPDATE t SET u = 'b' WHERE id = 1",
        ("UPDATE t SET n = 9 WHERE id = 1",), None,
    ),
    "partitions": (
        (NUMBERS.format("") + RANGES, NUMBER_ROWS), "DELETE FROM t WHERE id = 3",
        ("ALTER TABLE t PARTITION BY RANGE (id) (PARTITION p VALUES LESS THAN (3))",),
        r"rows \(`3`\) that none of its partitions holds",
    ),
    "partitions_fit": (
        (NUMBERS.format("") + RANGES, NUMBER_ROWS), "DELETE FROM t WHERE id = 3",
        ("ALTER TABLE t REORGANIZE PARTITION q INTO (PARTITION q VALUES LESS THAN (5), PARTITION r VALUES LESS THAN (9))",),
        None,
    ),
    "years": (
        (YEARS, "INSERT INTO t VALUES (1, '2019-01-01', 1), (2, '2021-01-01', 2)"), "DELETE FROM t WHERE id = 1",
        ("INSERT INTO t VALUES (3, '2019-01-01', 1)",), None,
    ),
}  # fmt: skip
CASES = {f"case_{name}": case for name, case in DEMANDS.items()}  # names of databases


@pytest.mark.sockets
@pytest.mark.parametrize("kind", [MySQLServer, MariaDBServer])
def test_what_a_table_demands(kind: type[Server], tmp_path: Path) -> None:
    """Each case in a database of its own name."""
    provide("mysql" if kind is MySQLServer else "mariadb")
    provide("mydumper")
    with (
        kind(tmp_path / "source", name="source", binlog=True) as source,
        kind(tmp_path / "target", name="target", binlog=False) as target,
    ):
        rowback = Rowback(tmp_path / "rowback", source)
        for name, (setup, _, _, _) in CASES.items():
            source.execute(f"CREATE DATABASE {name}")
            run_in(source, name, setup)
        rowback.catch_up()
        rowback.run("snapshot")
        accidents = {}
        for name, (_, accident, later, _) in CASES.items():
            (accidents[name],) = run_all(source, [[f"USE {name}", accident]])
            run_in(source, name, later)
        rowback.catch_up()
        context = open_context(rowback.config)
        for name, (setup, _, later, said) in CASES.items():
            output = tmp_path / name
            request = RestoreRequest("latest", (f"{name}.*",), output, leave_out=(accidents[name],))
            if said is not None:
                for asked in (request, replace(request, dry_run=True)):
                    with pytest.raises(NotComputable, match=said):
                        restore(context.store, context.log.read(), asked)
                assert not output.exists()
                continue
            assert restore(context.store, context.log.read(), replace(request, dry_run=True)).output is None
            restore(context.store, context.log.read(), request)
            load_with_client(target, output)
            loaded = target.execute(f"CHECKSUM TABLE {name}.t")
            target.execute(f"DROP DATABASE {name}")
            target.execute(f"CREATE DATABASE {name}")
            run_in(target, name, (*setup, *later))
            assert loaded == target.execute(f"CHECKSUM TABLE {name}.t"), name


def run_in(server: Server, db: str, statements: Sequence[str]) -> None:
    connection = server.connect(autocommit=True, charset="utf8mb4")
    with connection.cursor() as cursor:
        for statement in (f"USE {db}", *statements):
            cursor.execute(statement)
    connection.close()
