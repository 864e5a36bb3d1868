"""A whole restore beside `mysqlbinlog | mysql`, from the same snapshot of the same real server, to the same state.

One table of `rows` rows, each updated `updates_per_row` times after the snapshot (the workload is fixed). Both ways begin
with what is on disk: the archive on one side; the mydumper directory of the same snapshot, already loaded, and the server's
binlogs on the other. Seconds are on the clock, with the start of all processes:

    rowback files    `rowback restore`: files written, with their digests
    loading          those files by the plain mysql client into an empty server, apart
    replay           mysqlbinlog of all binlogs since the snapshot, piped into mysql (the load of the snapshot stands apart)

The servers that are loaded into have no binlog of their own, which favours the replay. CHECKSUM TABLE of all three must
agree.
"""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench_measure import BenchFailed
from testservers import MySQLServer, Server

ROWS = 40_000
UPDATES_PER_ROW = 40
BLOCK_ROWS = 100
_SCHEMA = """
CREATE DATABASE churn;
CREATE TABLE churn.counters (id int NOT NULL PRIMARY KEY, n bigint NOT NULL, total decimal(14,2) NOT NULL,
  note varchar(80) CHARACTER SET utf8mb4, seen datetime(6));
"""
_ROWS = """
INSERT INTO churn.counters WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < {rows})
SELECT /*+ SET_VAR(cte_max_recursion_depth=100000000) */
  i, 0, i / 7, CONCAT('counter ', LEFT(SHA2(i, 256), 32)), '2026-01-01' FROM s
"""
_PROCEDURE = """
CREATE PROCEDURE churn.work(rounds int, row_count int, block int)
BEGIN
  DECLARE r int DEFAULT 0;
  DECLARE at int;
  WHILE r < rounds DO
    SET at = 1;
    WHILE at <= row_count DO
      UPDATE churn.counters SET n = n + 1, total = total + 1.25,
        note = CONCAT('counter ', LEFT(SHA2(id * 1000 + r, 256), 32)),
        seen = '2026-01-01' + INTERVAL r SECOND WHERE id BETWEEN at AND at + block - 1;
      SET at = at + block;
    END WHILE;
    SET r = r + 1;
  END WHILE;
END
"""


def measure(folder: Path, scale: float = 1.0) -> dict[str, Any]:
    """Raises BenchFailed if the ways don't end in the same rows. folder: of servers, archive and output."""
    rows = max(BLOCK_ROWS, round(ROWS * scale))
    with MySQLServer(folder / "source", name="bench-churn") as source:
        rowback = _Rowback(folder, source)
        source.load(_SCHEMA)
        source.load(_ROWS.format(rows=rows), database="churn")
        source.execute(_PROCEDURE)
        rowback("capture", "--until-caught-up")
        rowback("snapshot")
        file, position = source.execute("SHOW BINARY LOG STATUS")[0][:2]
        source.execute("CALL churn.work(%s, %s, %s)", (UPDATES_PER_ROW, rows, BLOCK_ROWS))
        rowback("capture", "--until-caught-up")
        expected = _checksum(source)
        output, found = folder / "output", {"rows": rows, "updates": rows * UPDATES_PER_ROW}
        found["rowback_files_s"] = rowback(
            "restore", "--to", "latest", "--tables", "churn.counters", "--output", str(output)
        )
        loaded, found["load_s"] = _loaded(folder / "second", output)
        binlogs = [p for p in source.binlog_files() if p.name >= file]
        found["binlog_bytes"] = sum(p.stat().st_size for p in binlogs)
        replayed, timed = _replayed(folder, source, binlogs, position)
    found |= timed
    if not expected == loaded == replayed:
        raise BenchFailed(f"the source has checksum {expected}, restored {loaded}, replayed {replayed}")
    found["files_faster"] = found["replay_s"] / found["rowback_files_s"]
    found["whole_faster"] = (found["snapshot_load_s"] + found["replay_s"]) / (
        found["rowback_files_s"] + found["load_s"]
    )
    return found


class _Rowback:
    """The command as a user has it; a call gives its seconds."""

    def __init__(self, folder: Path, source: Server) -> None:
        config = folder / "rowback.toml"
        config.write_text(
            f'[archive]\nroot = "file://{folder}/archive"\n\n[servers.churn]\nhost = "{source.host}"\n'
            f'port = {source.port}\nuser = "{source.user}"\npassword_env = "CHURN_PASSWORD"\n'
        )
        self.environment = {**os.environ, "ROWBACK_CONFIG": str(config), "CHURN_PASSWORD": ""}

    def __call__(self, *arguments: str) -> float:
        command, begun = [str(Path(sys.executable).parent / "rowback"), *arguments], time.perf_counter()
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        if done.returncode:
            raise BenchFailed(f"rowback {arguments[0]} ended with {done.returncode}:\n{done.stderr[-2000:]}")
        return time.perf_counter() - begun


def _loaded(folder: Path, output: Path) -> tuple[str, float]:
    with MySQLServer(folder, name="bench-second", binlog=False) as server:
        return _load(server, output)


def _load(server: Server, output: Path) -> tuple[str, float]:
    begun = time.perf_counter()
    with (output / "load.mysql").open("rb") as script:
        subprocess.run(server.client_command("--loose-commands"), cwd=output, stdin=script, check=True)
    seconds = time.perf_counter() - begun
    return _checksum(server), seconds


def _replayed(folder: Path, source: Server, binlogs: list[Path], position: int) -> tuple[str, dict[str, float]]:
    """Load the snapshot's mydumper directory, then pipe the binlogs into the server."""
    dump = next(folder.glob("archive/backups/**/churn.counters-schema.sql*")).parent
    with MySQLServer(folder / "third", name="bench-third", binlog=False) as server:
        server.load("CREATE DATABASE churn")
        begun = time.perf_counter()
        for path in (*dump.glob("churn.counters-schema.sql*"), *sorted(dump.glob("churn.counters.*sql*"))):
            body = path.read_bytes()
            server.load(gzip.decompress(body) if path.suffix == ".gz" else body, database="churn")
        loading, begun = time.perf_counter() - begun, time.perf_counter()
        reader = source.mysqlbinlog_command("--skip-gtids", f"--start-position={position}", *map(str, binlogs))
        with subprocess.Popen(reader, stdout=subprocess.PIPE) as reading:
            subprocess.run(server.client_command("--binary-mode"), stdin=reading.stdout, check=True)
        seconds = time.perf_counter() - begun
        if reading.returncode:
            raise BenchFailed(f"mysqlbinlog ended with {reading.returncode}")
        return _checksum(server), {"snapshot_load_s": loading, "replay_s": seconds}


def _checksum(server: Server) -> str:
    return str(server.execute("CHECKSUM TABLE churn.counters")[0][1])
