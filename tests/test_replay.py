"""Statements that can't be computed, replayed on a scratch server: what is restored behind them is what the source held.

The oracle is the source's own SELECT and SHOW CREATE TABLE at each moment, beside those of a target that loaded the restore.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from oracle import load_with_client
from replaying import scratch_lines
from rowback import COMMAND, Rowback

from recovery.archive.actions import Ddl, Session
from recovery.archive.state import ArchiveState
from recovery.checks import Check, Verdict
from recovery.context import open_context
from recovery.ddl import classify
from recovery.doctor import examine
from recovery.failpoint import VARIABLE
from recovery.replayable import why_not, why_not_on
from recovery.schema import Column, Table
from testservers import MariaDBServer, MySQLServer, Server

DB = "replayed"
FLAVORS = ("mysql", "mariadb")
ZONE = "SET time_zone = '+05:30'"

FIRST = [
    f"CREATE DATABASE {DB} DEFAULT CHARACTER SET latin1",
    f"USE {DB}",
    "CREATE TABLE hashed (id INT PRIMARY KEY, v INT) PARTITION BY HASH (id) PARTITIONS 4",
    "CREATE TABLE keyed (id VARCHAR(20) PRIMARY KEY) PARTITION BY KEY (id) PARTITIONS 3",
    """CREATE TABLE ranged (id INT PRIMARY KEY, v VARCHAR(9)) PARTITION BY RANGE (id)
       (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN (20))""",
    "CREATE TABLE single (id INT PRIMARY KEY, v VARCHAR(9))",
    "CREATE TABLE numbered (a INT, b INT, v TEXT CHARACTER SET utf8mb4, PRIMARY KEY (b, a))",
    "CREATE TABLE expressed (id INT PRIMARY KEY, a INT, b INT)",
    "CREATE TABLE texts (id INT PRIMARY KEY, n VARCHAR(30), m TEXT, w VARCHAR(20) CHARACTER SET utf8mb4)",
    "CREATE TABLE moments (id INT PRIMARY KEY, t TIMESTAMP NULL, d DATETIME(6), f DOUBLE)",
    "CREATE TABLE heap (a INT, v VARCHAR(9))",
    "CREATE TABLE counted (id INT PRIMARY KEY AUTO_INCREMENT, v INT, KEY (v))",
    "CREATE TABLE parent (id INT PRIMARY KEY)",
    "CREATE TABLE child (id INT PRIMARY KEY, p INT, n INT, CONSTRAINT own FOREIGN KEY (p) REFERENCES parent (id))",
    "CREATE TABLE spare (id INT PRIMARY KEY AUTO_INCREMENT, v INT)",
    "INSERT INTO hashed VALUES (1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (-7, 7)",
    "INSERT INTO keyed VALUES ('a'), ('b'), ('c'), ('d'), ('e'), ('f'), ('g')",
    "INSERT INTO ranged VALUES (1, 'one'), (11, 'eleven')",
    "INSERT INTO single VALUES (2, 'two'), (3, 'three')",
    "INSERT INTO numbered VALUES (9, 1, 'x'), (1, 2, 'y'), (5, 1, NULL)",
    "INSERT INTO expressed VALUES (1, 10, 5), (2, NULL, 7)",
    "INSERT INTO texts VALUES (1, '12', ' 7.5', 'é'), (2, '-3x', 'nothing', 'ñ'), (3, NULL, '', '')",
    "INSERT INTO moments VALUES (1, '2020-07-01 12:00:00', '2020-07-01 23:59:59.999999', 1e0), (2, NULL, NULL, -0.1)",
    "INSERT INTO heap VALUES (1, '5'), (1, '5'), (2, NULL)",
    "INSERT INTO counted (v) VALUES (5), (6), (7)",
    "DELETE FROM counted WHERE v = 7",
    "INSERT INTO parent VALUES (1), (2)",
    "INSERT INTO child VALUES (1, 1, 1), (2, 2, 2)",
]
# A moment behind each list.
BEHIND: list[list[str]] = [
    ["INSERT INTO hashed VALUES (6, 6)", "ALTER TABLE hashed TRUNCATE PARTITION p1, p2"],
    ["INSERT INTO spare (v) VALUES (1), (2), (3), (4)", "DELETE FROM spare WHERE v > 1",  # the next number stays
     "ALTER TABLE spare MODIFY v VARCHAR(5)"],
    ["INSERT INTO keyed VALUES ('h')", "ALTER TABLE keyed TRUNCATE PARTITION p2", "INSERT INTO keyed VALUES ('i')"],
    ["UPDATE ranged SET v = 'I' WHERE id = 1", "ALTER TABLE ranged EXCHANGE PARTITION p0 WITH TABLE single"],
    ["UPDATE ranged SET v = 'II' WHERE id = 2", "UPDATE single SET v = 'i' WHERE id = 1"],
    ["DELETE FROM numbered WHERE v = 'y'", "INSERT INTO numbered VALUES (0, 7, 'zero')",
     "ALTER TABLE numbered ADD COLUMN n INT NOT NULL AUTO_INCREMENT UNIQUE FIRST"],
    ["INSERT INTO numbered (a, b) VALUES (8, 8)", "ALTER TABLE numbered DROP PRIMARY KEY, ADD PRIMARY KEY (n)"],
    ["UPDATE expressed SET a = 11 WHERE id = 1", "ALTER TABLE expressed ADD COLUMN c INT DEFAULT (a + b * 2)"],
    ["INSERT INTO expressed (id, a, b, c) VALUES (3, 1, 1, 9)", "ALTER TABLE expressed RENAME TO told"],
    ["SET sql_mode = ''", "ALTER TABLE texts MODIFY n INT, MODIFY m DECIMAL(5, 1)", "SET sql_mode = DEFAULT"],
    ["UPDATE texts SET n = n + 1", "ALTER TABLE texts MODIFY n CHAR(4), MODIFY w VARCHAR(20) CHARACTER SET latin1"],
    ["UPDATE texts SET w = 'Ö' WHERE id = 3", "ALTER TABLE texts MODIFY w VARCHAR(20) CHARACTER SET utf8mb4"],
    [ZONE, "ALTER TABLE moments MODIFY t DATETIME, MODIFY d DATE, MODIFY f VARCHAR(30)", "SET time_zone = DEFAULT"],
    ["INSERT INTO moments VALUES (3, '2021-01-01', '2021-01-01', '?')"],
    ["DELETE FROM heap WHERE a = 1 LIMIT 1", "ALTER TABLE heap MODIFY v INT", "INSERT INTO heap VALUES (2, NULL)"],
    ["SET sql_mode = ''", "ALTER TABLE counted MODIFY v TINYINT UNSIGNED NOT NULL", "SET sql_mode = DEFAULT",
     "INSERT INTO counted (v) VALUES (200)"],
    ["CREATE TABLE likened LIKE child", "INSERT INTO likened VALUES (1, 7, 7)"],
    ["ALTER TABLE child MODIFY n VARCHAR(5), DROP FOREIGN KEY own", "DELETE FROM child WHERE id = 2"],
]  # fmt: skip


@dataclass
class Moment:
    position: str
    tables: dict[str, tuple[Any, ...]]  # name -> rows, and CREATE without the counter


@dataclass
class Life:
    flavor: str
    source: Server
    scratch: Server
    target: Server
    rowback: Rowback
    moments: list[Moment]


def state_of(server: Server) -> dict[str, tuple[Any, ...]]:
    found = {}
    for (name,) in server.execute(f"SHOW TABLES FROM {DB}"):
        create = str(server.execute(f"SHOW CREATE TABLE {DB}.`{name}`")[0][1])
        create = re.sub(r"\(PARTITION.*", "", create, flags=re.DOTALL)  # MariaDB prints engines of partitions
        rows = server.execute(f"SELECT * FROM {DB}.`{name}`")
        found[name] = (sorted(map(repr, rows)), create)
    return found


def position(server: Server) -> str:
    server.execute("FLUSH BINARY LOGS")
    row = server.execute("SHOW BINARY LOGS")[-1]
    return f"{row[0]}:4"


@pytest.fixture(scope="module", params=FLAVORS)
def life(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    source = request.getfixturevalue(f"{request.param}_source")
    target = request.getfixturevalue(f"{request.param}_target")
    folder = tmp_path_factory.mktemp(f"replay-{request.param}")
    with type(source)(folder / "scratch", name="scratch", binlog=False) as scratch:
        rowback = Rowback(folder / "rb", source, extra=scratch_lines(scratch))
        source.execute(f"DROP DATABASE IF EXISTS {DB}")
        with source.connect(autocommit=True) as connection, connection.cursor() as cursor:
            for statement in FIRST:
                cursor.execute(statement)
            rowback.catch_up()
            rowback.run("snapshot", "--databases", DB)
            moments = []
            for statements in BEHIND:
                for statement in statements:
                    cursor.execute(statement)
                moments.append(Moment(position(source), state_of(source)))
        rowback.catch_up()
        yield Life(request.param, source, scratch, target, rowback, moments)
        source.execute(f"DROP DATABASE {DB}")


def restored(life: Life, rowback: Rowback, to: str, folder: Path, *more: str) -> dict[str, tuple[Any, ...]]:
    rowback.run("restore", "--to", to, "--databases", DB, "--output", str(folder), *more)
    life.target.execute(f"DROP DATABASE IF EXISTS {DB}")
    load_with_client(life.target, folder)
    found = state_of(life.target)
    life.target.execute(f"DROP DATABASE {DB}")
    return found


@pytest.mark.sockets
@pytest.mark.usefixtures("mydumper")
@pytest.mark.parametrize("number", [6, len(BEHIND) - 1])
def test_every_moment(life: Life, number: int, tmp_path: Path) -> None:
    moment = life.moments[number]
    assert restored(life, life.rowback, moment.position, tmp_path / "out") == moment.tables
    assert not {row[0] for row in life.scratch.execute("SHOW DATABASES")} & {DB, "rowback_scratch"}


@pytest.mark.sockets
@pytest.mark.usefixtures("mydumper")
def test_a_roll_forward_keeps_what_was_replayed(life: Life, tmp_path: Path) -> None:
    """Later restores need no scratch server, whatever it took to make the snapshot."""
    middle, last = life.moments[9], life.moments[-1]
    rowback = without_scratch(life, tmp_path)
    refused = rowback.run("restore", "--to", middle.position, "--output", str(tmp_path / "no"), check=False)
    assert (refused.returncode, "target_ddl_in_range" in refused.stderr) == (7, True)
    assert "`scratch_host` in rowback.toml" in refused.stderr
    made = life.rowback.json("roll-forward", "--to", middle.position, "--databases", DB)["snapshot"]
    try:
        (snapshot,) = [s for s in archive(rowback).snapshots if s.synthetic]
        assert snapshot.snapshot_id == made["snapshot_id"]
        assert snapshot.synthetic is not None
        first = [s.snapshot_id for s in archive(rowback).snapshots if not s.synthetic]
        assert list(snapshot.synthetic.sources) == first
        assert restored(life, rowback, middle.position, tmp_path / "middle") == middle.tables
        rowback.run("verify", "--archive")
        assert restored(life, life.rowback, last.position, tmp_path / "last") == last.tables
    finally:
        shutil.rmtree(life.rowback.folder / "archive")
        shutil.copytree(tmp_path / "kept", life.rowback.folder / "archive")


def without_scratch(life: Life, folder: Path) -> Rowback:
    """The same archive, whose state is kept in `folder`/kept, without a scratch server."""
    shutil.copytree(life.rowback.folder / "archive", folder / "kept")
    return Rowback(folder / "without", life.source, root=life.rowback.root)


def archive(rowback: Rowback) -> ArchiveState:
    return open_context(rowback.config).log.read()


@pytest.mark.sockets
@pytest.mark.usefixtures("mydumper")
def test_a_dry_run_replays_nothing_and_says_who_would(life: Life) -> None:
    done = life.rowback.run("restore", "--to", life.moments[0].position, "--dry-run", check=False)
    assert done.returncode == 7
    assert "TRUNCATE PARTITION p1, p2" in done.stderr
    assert "have it replayed on the scratch server, which a restore does and a dry run doesn't" in done.stderr


@pytest.mark.sockets
@pytest.mark.usefixtures("mydumper")
def test_a_scratch_server_with_a_table_is_refused_and_what_a_killed_use_left_is_dropped(
    life: Life, tmp_path: Path
) -> None:
    def refused() -> str:
        done = life.rowback.run("restore", "--to", to, "--output", str(out), check=False)
        assert done.returncode != 0
        assert not out.exists()
        return done.stderr

    to, out = life.moments[0].position, tmp_path / "out"
    life.scratch.execute("CREATE DATABASE rowback_scratch")
    life.scratch.execute("CREATE TABLE rowback_scratch.theirs (a INT)")
    assert "is not empty: it has the table `rowback_scratch.theirs`" in refused()
    assert life.scratch.execute("SELECT COUNT(*) FROM rowback_scratch.theirs") == ((0,),)
    life.scratch.execute("DROP DATABASE rowback_scratch")
    life.scratch.execute(f"CREATE DATABASE {DB}")
    life.scratch.execute(f"CREATE PROCEDURE {DB}.theirs() SELECT 1")
    assert f"has a database `{DB}` of its own" in refused()
    assert life.scratch.execute(f"SHOW CREATE PROCEDURE {DB}.theirs")
    life.scratch.execute(f"DROP DATABASE {DB}")
    life.scratch.execute("CREATE DATABASE precious")
    life.scratch.execute("CREATE TABLE precious.t (a INT PRIMARY KEY)")
    life.scratch.execute("CREATE DATABASE rowback_scratch")
    life.scratch.execute("CREATE TABLE rowback_scratch.made (name VARCHAR(64) PRIMARY KEY)")
    life.scratch.execute(f"CREATE DATABASE {DB}")
    life.scratch.execute(f"CREATE TABLE {DB}.hashed (a INT)")
    life.scratch.execute(f"INSERT INTO rowback_scratch.made VALUES ('{DB}'), ('never made')")
    assert "is not empty: it has the table `precious.t`" in refused()
    assert life.scratch.execute("SELECT COUNT(*) FROM precious.t") == ((0,),)
    life.scratch.execute("DROP DATABASE precious")
    assert restored(life, life.rowback, to, out) == life.moments[0].tables


@pytest.mark.sockets
def test_doctor_looks_at_the_scratch_server(
    life: Life, fresh_mysql: Callable[..., MySQLServer], fresh_mariadb: Callable[..., MariaDBServer], tmp_path: Path
) -> None:
    def verdict(rowback: Rowback) -> Check:
        (found,) = [c for c in examine(open_context(rowback.config)).checks if c.name == "scratch server"]
        return found

    os.environ.setdefault("ROWBACK_TEST_PASSWORD", life.source.password)
    good = verdict(life.rowback)
    assert (good.verdict, "is empty" in good.message) == (Verdict.OK, True)
    fresh = {"mysql": fresh_mysql, "mariadb": fresh_mariadb}
    options = {"explicit_defaults_for_timestamp": "OFF", "innodb_default_row_format": "compact"}
    odd: Server = fresh[life.flavor](name="odd", binlog=False, options=options)
    found = verdict(Rowback(tmp_path / "odd-rb", life.source, extra=scratch_lines(odd)))
    assert found.verdict is Verdict.ADVICE
    assert "explicit_defaults_for_timestamp = ON" in found.fix
    assert "innodb_default_row_format is compact, on the source dynamic" in found.message
    other: Server = fresh["mariadb" if life.flavor == "mysql" else "mysql"](name="other", binlog=False)
    found = verdict(Rowback(tmp_path / "other-rb", life.source, extra=scratch_lines(other)))
    assert (found.verdict, f"point `scratch_host` to an empty {life.flavor}" in found.fix) == (Verdict.FAIL, True)
    odd.execute("CREATE DATABASE full")
    odd.execute("CREATE TABLE full.t (a INT PRIMARY KEY)")
    found = verdict(Rowback(tmp_path / "full-rb", life.source, extra=scratch_lines(odd)))
    assert (found.verdict, "is not empty" in found.message) == (Verdict.FAIL, True)


@pytest.mark.sockets
@pytest.mark.usefixtures("mydumper")
def test_killed_in_a_replay_the_next_restore_goes_on(life: Life, tmp_path: Path) -> None:
    command = ["restore", "--to", life.moments[0].position, "--output", str(tmp_path / "out")]
    environment = {**life.rowback.environment, VARIABLE: "replay.replayed"}
    done = subprocess.run([*COMMAND, *command], env=environment, cwd=tmp_path, capture_output=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (DB,) in life.scratch.execute("SHOW DATABASES")
    assert restored(life, life.rowback, life.moments[0].position, tmp_path / "out2") == life.moments[0].tables
    assert (DB,) not in life.scratch.execute("SHOW DATABASES")


@pytest.mark.sockets
@pytest.mark.parametrize("flavor", FLAVORS)
def test_the_archive_has_the_settings_that_statements_ran_under(
    flavor: str, request: pytest.FixtureRequest, tmp_path: Path, unique_name: Callable[[str], str]
) -> None:
    source: Server = request.getfixturevalue(f"{flavor}_source")
    db = unique_name("settings")
    rowback = Rowback(tmp_path, source, extra=f'include = ["{db}.*"]')
    rowback.catch_up()
    unusual = ["lc_time_names = 'de_DE'"]
    if flavor == "mysql":
        unusual += ["explicit_defaults_for_timestamp = OFF", "default_collation_for_utf8mb4 = 'utf8mb4_general_ci'"]
    with source.connect(autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {db}")
        cursor.execute(f"CREATE TABLE {db}.t (a INT)")
        cursor.execute("SET auto_increment_increment = 3, auto_increment_offset = 2")
        cursor.execute(f"ALTER TABLE {db}.t ADD b INT")
        for setting in unusual:
            name = setting.partition(" ")[0]
            cursor.execute(f"SET {setting}")
            cursor.execute(
                f"ALTER TABLE {db}.t ADD {name} VARCHAR(9) CHARACTER SET utf8mb4, ADD t_{name} TIMESTAMP NULL"
            )
            cursor.execute(f"SET {name} = DEFAULT")
    rowback.catch_up()
    found = {d.statement.split(" ")[4]: d.session for d in archive(rowback).ddls if d.verb == "ALTER TABLE"}
    usual = found.pop("b")
    assert usual is not None
    assert (usual.numbering, usual.complete) == ((3, 2), True)
    assert len(found) == len(unusual)
    assert not [name for name, session in found.items() if session is None or session.complete]


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.sockets
@pytest.mark.usefixtures("mydumper")
def test_what_the_server_can_t_repeat_is_refused_with_the_reason(
    fresh_mysql: Callable[..., MySQLServer], fresh_mariadb: Callable[..., MariaDBServer], tmp_path: Path
) -> None:
    source, scratch = fresh_mysql(name="source"), fresh_mysql(name="scratch", binlog=False)
    rowback = Rowback(tmp_path / "rb", source, extra=scratch_lines(scratch))
    source.load(
        "CREATE DATABASE d; USE d; CREATE TABLE a (id INT PRIMARY KEY); CREATE TABLE heap (v INT);"
        "CREATE TABLE three (a INT PRIMARY KEY, b INT); INSERT INTO three VALUES (1, 5);"
    )
    rowback.catch_up()
    rowback.run("snapshot")
    source.load(
        "USE d; INSERT INTO a VALUES (1), (2); INSERT INTO heap VALUES (1), (1);"
        "ALTER TABLE a ADD u DOUBLE DEFAULT (id / 3);"
        "ALTER TABLE heap ADD n INT AUTO_INCREMENT PRIMARY KEY;"
    )
    rowback.catch_up()

    def refused(table: str, config: Rowback = rowback) -> str:
        done = config.run(
            "restore", "--to", "latest", "--tables", f"d.{table}", "--output", str(tmp_path / "out"), check=False
        )
        assert done.returncode == 7, (done.stdout, done.stderr)
        assert not (tmp_path / "out").exists()
        return done.stderr

    assert "the default of column `u` isn't a literal" in (text := refused("a"))
    assert "it can't be replayed on a scratch server: the digits of a division depend" in text
    assert "scratch_host" not in text  # no server could tell
    text = refused("heap")
    assert "column `n` numbered the rows that were there" in text
    assert "it can't be replayed on the scratch server 127.0.0.1" in text
    assert "goes by the order of the rows, and `d.heap` has no key" in text

    source.load("USE d; ALTER TABLE three MODIFY b VARCHAR(9)")
    rowback.catch_up()
    other = fresh_mariadb(name="other", binlog=False)
    wrong = Rowback(tmp_path / "wrong", source, root=rowback.root, extra=scratch_lines(other))
    assert re.search(r"that is mariadb 10\..*, and the source was mysql 9\.", refused("three", wrong))
    extra = scratch_lines(scratch) + '\nscratch_password_env = "ROWBACK_TEST_NO_SUCH"'
    unset = Rowback(tmp_path / "unset", source, root=rowback.root, extra=extra)
    done = unset.run("restore", "--to", "latest", "--tables", "d.three", "--output", str(tmp_path / "out"), check=False)
    assert (done.returncode, "ROWBACK_TEST_NO_SUCH" in done.stderr) == (2, True)
    scratch.execute("CREATE USER poor@'%' IDENTIFIED BY 'x'")
    extra = scratch_lines(scratch).replace(f'"{scratch.user}"', '"poor"')
    denied = Rowback(tmp_path / "denied", source, root=rowback.root, extra=extra)
    done = denied.run(
        "restore", "--to", "latest", "--tables", "d.three", "--output", str(tmp_path / "out"), check=False
    )
    assert done.returncode not in (0, 1)
    assert "Access denied" in done.stderr


SESSION = Session(0, "utf8mb4", 45, 45, None, None, 1_700_000_000_000_000, (1, 1), complete=True)


def ddl(statement: str, session: Session | None = SESSION) -> Ddl:
    found = classify(statement, "d", session.sql_mode if session else 0)
    return Ddl(5, None, "binlog.000001", 500, 0, "d", statement, found.verb, found.tables, session)


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("ALTER TABLE t MODIFY a INT", None),
        ("ALTER TABLE t ADD version INT AUTO_INCREMENT UNIQUE, ADD user VARCHAR(9), ADD format INT", None),
        ("ALTER TABLE t ADD v CHAR(5) DEFAULT (CONCAT(a, 'RAND()'))", None),
        ("ALTER TABLE t EXCHANGE PARTITION p WITH TABLE u", None),
        ("ALTER TABLE t EXCHANGE PARTITION p WITH TABLE u WITHOUT VALIDATION", "another partition than"),
        ("ALTER TABLE t CONVERT TO CHARACTER SET DEFAULT, MODIFY a INT", "a database's character set"),
        ("ALTER TABLE t ADD w INT DEFAULT (EXTRACT(WEEK FROM d))", "EXTRACT may give"),
        ("ALTER TABLE t ADD w INT DEFAULT (a REGEXP 'x')", "REGEXP may give"),
        ("CREATE TABLE t LIKE u", None),
        ("CREATE UNIQUE INDEX i ON t (a)", None),
        ("CREATE TABLE t (a INT)", "it isn't of a kind"),
        ("RENAME TABLE t TO u", "it isn't of a kind"),
        ("ALTER TABLE t IMPORT TABLESPACE", "it takes rows from a file"),
        ("ALTER TABLE t ADD u CHAR(36) DEFAULT (UUID())", "UUID may give"),
        ("ALTER TABLE t ADD u CHAR(36) DEFAULT (`uuid` ())", "UUID may give"),
        ("ALTER TABLE t ADD u INT DEFAULT (a + rand())", "RAND may give"),
        ("ALTER TABLE t ADD u VARCHAR(99) DEFAULT (CURRENT_USER)", "CURRENT_USER may give"),
        ("ALTER TABLE t ADD n INT DEFAULT (NEXT VALUE FOR s)", "numbers of a sequence"),
        ("ALTER TABLE t ADD n INT DEFAULT (@x)", "depends on a variable"),
        ("ALTER TABLE t ADD n DOUBLE DEFAULT (a / 3)", "div_precision_increment"),
        ("ALTER TABLE t ADD n DATETIME DEFAULT CURRENT_TIMESTAMP", "the time zone that it ran under"),
        ("ALTER TABLE t ADD SYSTEM VERSIONING", "history of rows"),
        ("ALTER TABLE /*!50000 t ADD u CHAR(36) DEFAULT (UUID()) */", "UUID may give"),
    ],
)
def test_which_statements_are_replayed(statement: str, why: str | None) -> None:
    found = why_not(ddl(statement))
    assert found is None if why is None else why in (found or "")


def test_the_settings_must_be_known() -> None:
    change = "ALTER TABLE t MODIFY a INT"
    for session in (None, replace(SESSION, complete=False)):
        assert "settings under which it ran" in (why_not(ddl(change, session)) or "")
    assert "operating system" in (why_not(ddl(change, replace(SESSION, time_zone="SYSTEM"))) or "")
    assert why_not(ddl(change, replace(SESSION, time_zone="+02:00"))) is None
    assert why_not(ddl("CREATE TABLE t (LIKE u)", replace(SESSION, time_zone="SYSTEM"))) is None  # no rows
    clock = ddl("ALTER TABLE t ADD n DATETIME DEFAULT CURRENT_TIMESTAMP", replace(SESSION, time_zone="+02:00"))
    assert why_not(clock) is None
    assert "sql_mode" in (
        why_not(ddl(r"ALTER TABLE t ADD a INT DEFAULT '\'", replace(SESSION, sql_mode=1 << 20))) or ""
    )


CREATE = "CREATE TABLE `t` (\n  `a` int NOT NULL,\n  PRIMARY KEY (`a`)\n) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4"


def test_what_goes_by_more_than_rows_is_refused() -> None:
    keyed = Table("d", "t", (Column("a", "int"), Column("m", "timestamp"), Column("c", "time")), ("a",))

    def why(statement: str, table: Table = keyed, create: str = CREATE, flavor: str = "mysql", **session: Any) -> str:
        return why_not_on(ddl(statement, replace(SESSION, **session)), [table], [create], flavor) or ""

    for statement in ("ALTER TABLE t ADD n INT AUTO_INCREMENT UNIQUE", "ALTER IGNORE TABLE t ADD UNIQUE (a)"):
        assert not why(statement, replace(keyed, columns=keyed.columns[:1]))
        assert "has no key" in why(statement, replace(keyed, key=()))
        assert "only InnoDB" in why(statement, create=CREATE.replace("InnoDB", "MyISAM"))
    counted = CREATE.replace("NOT NULL", "NOT NULL AUTO_INCREMENT")
    assert "counter" in why("ALTER TABLE t DROP a, ADD n INT AUTO_INCREMENT UNIQUE", create=counted)
    assert not why("ALTER TABLE t MODIFY a BIGINT", create=counted + " AUTO_INCREMENT=7")
    generated = replace(keyed, columns=(*keyed.columns, Column("g", "int", generated=True)))
    assert "generated columns" in why("ALTER TABLE t MODIFY a VARCHAR(9)", generated)
    assert not why("CREATE TABLE u LIKE t", generated)
    assert "time zone" in why("ALTER TABLE t MODIFY m DATETIME")
    assert not why("ALTER TABLE t MODIFY m DATETIME", time_zone="+00:00")
    assert not why("ALTER TABLE t MODIFY m TIMESTAMP(3)")
    assert not why("ALTER TABLE t MODIFY c DATETIME, MODIFY a VARCHAR(9) CHARACTER SET utf8")
    for statement in ("MODIFY c DATETIME", "MODIFY a VARCHAR(9) CHARACTER SET utf8"):
        assert "old_mode" in why(f"ALTER TABLE t {statement}", flavor="mariadb")
    assert "explicit_defaults" in why("ALTER TABLE t ADD x TIMESTAMP", flavor="mariadb")
