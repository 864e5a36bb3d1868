"""Each output format of a restore, from a real source through capture and a snapshot: loaded into a real server, the rows
are the source's own, and the server's digests are the manifest's. Kills, resumes and what a resume refuses.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from oracle import load_with_myloader, load_with_myloader_1x
from rowback import COMMAND, Rowback
from typecases import cases, exact_cells
from typer.testing import CliRunner

from recovery.cli import app
from recovery.errors import RowbackError
from recovery.failpoint import VARIABLE
from testservers import MariaDBServer, MySQLServer, Server, require

ODD = "odd `n\"ame';"


class Source:
    """A captured source whose tables `wide` (every type and value, keyed), `bag` (keyless, with copies), `grown` (through
    DDL) and one with an odd name changed after the snapshot."""

    def __init__(self, folder: Path, server: Server, target: Server) -> None:
        self.server, self.target = server, target
        self.folder = folder
        self.cases = [c for c in cases(server.flavor) if c.column.type != "json"]
        self.rowback = Rowback(folder / "rowback", server)
        self.columns: dict[str, str] = {}

    def run(self, *statements: str) -> None:
        opened = contextlib.closing(self.server.connect(database="types", autocommit=True))
        with opened as connection, connection.cursor() as cursor:
            cursor.execute("SET sql_mode = 'ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO', time_zone = '+00:00'")
            for statement in statements:
                cursor.execute(statement)

    def values(self, i: int) -> str:
        return ", ".join("NULL" if i == 13 else c.values[i % len(c.values)][0] for c in self.cases)

    def create(self) -> None:
        self.server.execute("CREATE DATABASE types CHARACTER SET utf8mb4")
        body = ", ".join(f"`{c.column.name}` {c.ddl} NULL" for c in self.cases)
        odd = ODD.replace("`", "``")
        self.run(
            f"CREATE TABLE wide (id INT PRIMARY KEY, {body})",
            f"CREATE TABLE bag (id INT, {body})",
            "CREATE TABLE grown (a INT, b VARCHAR(9) CHARACTER SET utf8mb4, PRIMARY KEY (a))",
            f"CREATE TABLE `{odd}` (k VARCHAR(20) CHARACTER SET utf8mb4 PRIMARY KEY, `v``'\"` INT,"
            " g INT AS (1 + `v``'\"`) STORED)",
            "CREATE TABLE cleared (id INT PRIMARY KEY)",
            "CREATE TABLE audit (old INT, new INT)",
            "CREATE TRIGGER audited AFTER UPDATE ON wide FOR EACH ROW INSERT INTO audit VALUES (OLD.id, NEW.id)",
            *(f"INSERT INTO {t} VALUES ({i}, {self.values(i)})" for t in ("wide", "bag", "bag") for i in range(14)),
            "INSERT INTO grown (a, b) VALUES (1, 'x'), (2, 'y'), (3, NULL)",
            f"INSERT INTO `{odd}` (k, `v``'\"`) VALUES ('a', 1), ('\\'', 2)",
        )
        self.columns = {}
        documents = next((c for c in cases(self.server.flavor) if c.column.type == "json"), None)
        if documents is not None:
            self.run(
                "CREATE TABLE docs (id INT PRIMARY KEY, j JSON, at TIMESTAMP DEFAULT '2026-01-01'"
                " ON UPDATE CURRENT_TIMESTAMP)",
                *(f"INSERT INTO docs (id, j) VALUES ({i}, {sql})" for i, (sql, _) in enumerate(documents.values)),
            )
            self.columns["docs"] = "id, CAST(j AS BINARY), JSON_TYPE(j), at"
        cells = exact_cells([c.column for c in self.cases])
        self.columns |= {
            "wide": f"id, {cells}",
            "bag": f"id, {cells}",
            "grown": "*",
            ODD: "*",
            "cleared": "*",
            "audit": "*",
        }

    def change(self) -> None:
        for t in ("wide", "bag"):
            for i in range(0, 14, 3):
                sets = ", ".join(f"`{c.column.name}` = {c.values[(i + 1) % len(c.values)][0]}" for c in self.cases)
                self.run(f"UPDATE {t} SET {sets} WHERE id = {i} LIMIT 1")
            self.run(f"DELETE FROM {t} WHERE id IN (4, 5) LIMIT 2", f"INSERT INTO {t} VALUES (40, {self.values(4)})")
            self.run(f"UPDATE {t} SET id = id + 100 WHERE id > 9 ORDER BY id DESC LIMIT 3")
        odd = ODD.replace("`", "``")
        if "docs" in self.columns:
            self.run(
                "UPDATE docs SET j = JSON_SET(j, '$.x', CAST(1.50 AS DECIMAL(5,2))), at = at WHERE id = 0",
                "UPDATE docs SET id = id + 50 WHERE id > 2 ORDER BY id DESC",
            )
        self.run(
            "UPDATE grown SET b = 'z' WHERE a = 1",
            "ALTER TABLE grown ADD COLUMN c DECIMAL(5,2) NOT NULL DEFAULT 1.50, MODIFY b VARCHAR(40) CHARACTER SET utf8mb4",
            "INSERT INTO grown (a, b, c) VALUES (7, REPEAT('w', 30), -2)",
            "DELETE FROM grown WHERE a = 2",
            "START TRANSACTION",
            f"UPDATE `{odd}` SET `v``'\"` = -1 WHERE k = 'a'",
            f"INSERT INTO `{odd}` (k, `v``'\"`) VALUES ('b ', 9)",
            "COMMIT",
            "RENAME TABLE grown TO aged",
            "ALTER TABLE aged ADD INDEX (c)",
            "UPDATE aged SET c = 3 WHERE a = 3",
            "CREATE TABLE late (id INT PRIMARY KEY AUTO_INCREMENT, t TEXT)",
            "INSERT INTO late (t) VALUES ('one'), ('two')",
            "TRUNCATE TABLE cleared",
            "INSERT INTO cleared VALUES (0), (5)",
        )
        self.columns["aged"] = self.columns.pop("grown")
        self.columns["late"] = "*"

    def rows(self, server: Server, without: tuple[str, ...] = ()) -> dict[str, list[Any]]:
        found = {}
        with contextlib.closing(server.connect(database="types")) as connection, connection.cursor() as cursor:
            cursor.execute("SET time_zone = '+00:00'")
            for name, cells in self.columns.items():
                if name in without:
                    continue
                quoted = name.replace("`", "``")
                cursor.execute(f"SELECT {cells} FROM `{quoted}`")
                found[name] = sorted(cursor.fetchall(), key=repr)
        return found

    def restore(self, name: str, *options: str) -> tuple[Path, Any]:
        """The command in this process: starting one takes longer than what it does here."""
        output = self.folder / name
        done = self.invoke("--to", "latest", "--output", str(output), "--report", "json", *options)
        if done.exception is not None:
            raise done.exception
        return output, json.loads(done.stdout)

    def refused(self, name: str, *options: str, to: str = "latest") -> str:
        done = self.invoke("--to", to, "--output", str(self.folder / name), *options)
        assert isinstance(done.exception, RowbackError), done.output
        return f"{done.exception.message} HINT: {done.exception.hint}"

    def invoke(self, *options: str) -> Any:
        return CliRunner().invoke(app, ["restore", *options], env=self.rowback.environment)

    def client(self, script: bytes, cwd: Path, *options: str) -> str:
        command = self.target.client_command("--loose-commands", *options)
        done = subprocess.run(command, cwd=cwd, input=script, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def check(self, output: Path, without: tuple[str, ...] = ()) -> None:
        """What was loaded is what the source has, and what the manifest says."""
        mine, theirs = self.rows(self.target, without), self.rows(self.server, without)
        for name, rows in theirs.items():
            assert mine[name] == rows, name
        said = self.client((output / "check.mysql").read_bytes(), output)
        assert said.count("same") == len(theirs), said


def _source(kind: type[Server], folder: Path) -> Iterator[Source]:
    require(kind.flavor)
    require("mydumper")
    options = {"local_infile": "ON"}
    with (
        kind(folder / "source", name="source") as server,
        kind(folder / "target", name="target", binlog=False, options=options) as target,
    ):
        source = Source(folder, server, target)
        source.rowback.run("capture", "--until-caught-up")
        source.create()
        source.rowback.run("snapshot", "--lock", "brief")
        source.change()
        source.rowback.run("capture", "--until-caught-up")
        yield source


@pytest.fixture(scope="module")
def mysql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Source]:
    yield from _source(MySQLServer, tmp_path_factory.mktemp("formats"))


@pytest.fixture(scope="module")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Source]:
    yield from _source(MariaDBServer, tmp_path_factory.mktemp("formats"))


pytestmark = pytest.mark.sockets


@pytest.mark.parametrize("load", [load_with_myloader, load_with_myloader_1x])
def test_mydumper_with_gzip_and_small_files(mysql: Source, load: Callable[[Server, Path], None]) -> None:
    output, result = mysql.restore(
        load.__name__, "--compress", "gzip", "--rows-per-file", "5", "--statement-size", "4KiB"
    )
    wide = next(t for t in result["tables"] if t["table"] == "wide")
    assert [f["rows"] for f in wide["files"]] == [5, 5, 3]
    assert all(f["name"].endswith(".sql.gz") for f in wide["files"])
    assert not list(output.glob("*.sql")), "myloader 1.x doesn't read packed and plain files from one directory"
    mysql.target.execute("DROP DATABASE IF EXISTS types")
    load(mysql.target, output)
    mysql.check(output)


@pytest.mark.parametrize("flavor", ["mysql", "mariadb"])
def test_csv(flavor: str, request: pytest.FixtureRequest) -> None:
    source: Source = request.getfixturevalue(flavor)
    without = ("docs",) if flavor == "mysql" else ()
    if without:
        refused = source.refused("csv", "--format", "csv", "--tables", "types.docs")
        assert "column `j` of table `types.docs` holds JSON with DECIMALs" in refused
    options = ["--rows-per-file", "6", "--compress", "gzip", *(f"--exclude=types.{name}" for name in without)]
    output, _ = source.restore("csv", "--format", "csv", *options)
    for path in output.glob("*.gz"):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
    source.target.execute("DROP DATABASE IF EXISTS types")
    said = source.client((output / "load.mysql").read_bytes(), output, "--local-infile=1")
    assert "DIFFERENT" not in said
    source.check(output, without)


@pytest.mark.parametrize("flavor", ["mysql", "mariadb"])
def test_sql_tells_what_happened(flavor: str, request: pytest.FixtureRequest) -> None:
    source: Source = request.getfixturevalue(flavor)
    output, result = source.restore("story", "--format", "sql")
    source.target.execute("DROP DATABASE IF EXISTS types")
    source.target.execute("SET GLOBAL sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES,TRADITIONAL'")
    said = source.client((output / "load.mysql").read_bytes(), output)
    source.target.execute("SET GLOBAL sql_mode = DEFAULT")
    assert said.count("same") == len(source.columns)
    source.check(output)
    text = (output / "changes.00000.sql").read_text()
    places = [
        text.index(part) for part in ("SET `b` = 'z'", "ADD COLUMN c DECIMAL", "3.00", "CREATE TABLE `types`.`late`")
    ]
    assert places == sorted(places)
    assert text.count("START TRANSACTION;") == text.count("COMMIT;") == text.count("-- transaction seq ")
    base = next(t for t in result["tables"] if t["table"] == "wide")
    assert sum(f["rows"] for f in base["files"]) == 14
    assert base["rows"] == 13
    # Under other names, loaded beside them.
    beside, _ = source.restore(
        "beside", "--format", "sql", "--rename", "types=copies", "--tables", "types.aged,types.bag"
    )
    source.target.execute("DROP DATABASE IF EXISTS copies")
    said = source.client((beside / "load.mysql").read_bytes(), beside)
    assert "same\tcopies.aged" in said
    assert "same\tcopies.bag" in said
    # It says so if something else was loaded.
    source.target.execute("DELETE FROM types.wide LIMIT 1")
    check = subprocess.run(
        source.target.client_command(), stdin=(output / "check.mysql").open("rb"), capture_output=True
    )
    assert check.returncode != 0
    assert b"DIFFERENT\ttypes.wide" in check.stdout
    assert b"rows differ" in check.stderr.lower()


def test_parquet_has_the_typed_values(mysql: Source) -> None:
    output, result = mysql.restore("parquet", "--format", "parquet", "--rows-per-file", "8")
    tables = {t["table"]: t for t in result["tables"]}
    theirs = mysql.rows(mysql.server)
    for name, table in tables.items():
        files = [pq.read_table(output / f["name"]) for f in table["files"]]
        assert sum(f.num_rows for f in files) == len(theirs[name])
        assert [f["rows"] for f in table["files"][:-1]] == [8] * (len(files) - 1)
    wide = [row for f in tables["wide"]["files"] for row in pq.read_table(output / f["name"]).to_pylist()]
    with_one = next(row for row in wide if row["id"] == 1)
    for case in mysql.cases:
        value = case.values[1 % len(case.values)][1]
        if hasattr(value, "text"):
            assert with_one[case.column.name] is None
            assert dict(with_one["_rb_exact"])[case.column.name] == (value.text or "0")
        else:
            assert with_one[case.column.name] == value, case.ddl
    # The same rows, loaded through a dump, have the digest that the Parquet files' manifest says.
    mysql.target.execute("DROP DATABASE IF EXISTS types")
    dump, _ = mysql.restore("for-parquet")
    mysql.client((dump / "load.mysql").read_bytes(), dump)
    mysql.check(output)


# --- going on -----------------------------------------------------------------------------------------------------------


def killed(source: Source, name: str, failpoint: str, *options: str) -> Path:
    """A restore that kill -9 ended at the failpoint."""
    arguments = ["restore", "--to", "latest", "--output", str(source.folder / name), *options]
    environment = {**source.rowback.environment, VARIABLE: failpoint}
    done = subprocess.run([*COMMAND, *arguments], env=environment, cwd=source.folder, capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    assert "failpoint hit" in done.stderr
    assert not (source.folder / name).exists()
    return source.folder / f"{name}.partial"


@pytest.mark.parametrize(
    ("place", "data_format"),
    [("restore.table-written:3", "mydumper"), ("restore.table-recorded:3", "csv"), ("restore.manifest", "sql")],
)
def test_a_killed_restore_goes_on(mysql: Source, place: str, data_format: str) -> None:
    name, options = f"killed-{data_format}", ["--format", data_format, "--exclude", "types.docs"]
    left = killed(mysql, name, place, *options)
    assert not (left / "rowback-manifest.json").exists()
    before = {p.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in left.iterdir() if ".00000." in p.name}
    output, result = mysql.restore(name, "--resume", *options)
    assert len(result["resumed"]) == {"mydumper": 2, "csv": 3, "sql": 7}[data_format]
    kept = [f["name"] for t in result["tables"] if f"types.{t['table']}" in result["resumed"] for f in t["files"]]
    for file in kept:  # not written again
        assert ((output / file).stat().st_ino, (output / file).stat().st_mtime_ns) == before[file]
    if data_format == "sql":
        assert (output / "changes.00000.sql").stat().st_ino == before["changes.00000.sql"][0]
    whole, _ = mysql.restore(f"whole-{name}", *options)
    ours, theirs = ({p.name: p.read_bytes() for p in d.iterdir()} for d in (output, whole))
    assert ours == theirs


def test_what_a_resume_refuses_and_what_it_notices(mysql: Source) -> None:
    left = killed(mysql, "again", "restore.table-recorded:4")
    for options, said in (
        (["--compress", "gzip"], "its options was"),
        (["--tables", "types.wide"], "its choice of tables was"),
        (["--format", "csv"], "its options was"),
    ):
        assert said in mysql.refused("again", "--resume", *options)
    cut = json.loads(mysql.invoke("--to", "latest", "--dry-run", "--format", "json").stdout)["plan"]["cut"]
    other = mysql.refused("again", "--resume", to=f"{cut['file']}:{cut['position']}")
    assert "its target was `latest` and is `" in other
    plain = mysql.refused("again")
    assert "is in the way" in plain
    assert "--resume" in plain
    victim = left / "types.bag.00000.sql"
    body = bytearray(victim.read_bytes())
    body[len(body) // 2] ^= 1
    victim.write_bytes(body)
    done = mysql.invoke("--to", "latest", "--output", str(mysql.folder / "again"), "--resume")
    assert done.exit_code == 0
    assert "table types.bag is written again: `types.bag.00000.sql` doesn't have the bytes" in done.stderr
    assert "types.wide" not in done.stderr  # no progress where no terminal is
    manifest = json.loads((mysql.folder / "again" / "rowback-manifest.json").read_text())
    mysql.target.execute("DROP DATABASE IF EXISTS types")
    mysql.client((mysql.folder / "again" / "load.mysql").read_bytes(), mysql.folder / "again")
    mysql.check(mysql.folder / "again")
    for record in [*manifest["files"], *(f for t in manifest["tables"] for f in (*t["files"], *t["definition"]))]:
        raw = (mysql.folder / "again" / record["name"]).read_bytes()
        assert (len(raw), hashlib.sha256(raw).hexdigest()) == (record["size_bytes"], record["sha256"])
    named = {f["name"] for f in manifest["files"]} | {"rowback-manifest.json"}
    named |= {f["name"] for t in manifest["tables"] for f in (*t["files"], *t["definition"])}
    assert named == set(os.listdir(mysql.folder / "again"))


def test_a_terminal_shows_progress(mysql: Source) -> None:
    ours, theirs = os.openpty()
    arguments = ["restore", "--to", "latest", "--output", str(mysql.folder / "seen"), "--report", "json"]
    environment = {**mysql.rowback.environment, "TERM": "xterm", "COLUMNS": "150"}
    process = subprocess.Popen([*COMMAND, *arguments], env=environment, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError), os.fdopen(ours, "rb", buffering=0) as terminal:  # EIO when the process has ended
        while part := terminal.read(4096):
            shown += part
    assert process.wait(60) == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    total = len(mysql.columns)
    assert "tables" in text
    assert f"{total}/{total}" in text
    assert re.search(r"\d+ rows, \d", text)
