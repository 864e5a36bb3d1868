"""One transaction of many times the memory budget: captured within it, killed in the middle, and exact afterwards.

The short version runs always; the campaign (`make campaign`) sets ROWBACK_CAMPAIGN and then it is a transaction of 1 GB with
the default budget.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from exactness import assert_exact, executed
from rowback import Rowback

from recovery.archive.segments import read_segment
from recovery.context import open_context
from testservers import MySQLServer

MIB = 1024 * 1024
MOST_RSS_MIB = 700
SCHEMA = """
CREATE DATABASE big;
CREATE TABLE big.t (id bigint PRIMARY KEY, body varchar(1100) CHARACTER SET latin1 NOT NULL, n int NULL);
"""
# 1,024 characters that don't compress to nothing, another text for each id.
BODY = "CONCAT({})".format(", ".join(f"SHA2(CONCAT(id, '/{i}'), 512)" for i in range(8)))


@dataclass(frozen=True)
class Size:
    rows: int
    memory_mib: int
    kill_at_part: int


SHORT = Size(rows=80_000, memory_mib=16, kill_at_part=3)
CAMPAIGN = Size(rows=1_000_000, memory_mib=256, kill_at_part=6)


def in_one_transaction(source: MySQLServer, rows: int) -> None:
    """Insert so many rows, change and delete some of them, and commit once."""
    numbers = " + ".join(f"d{i}.d * {10**i}" for i in range(6))
    digits = " UNION ALL ".join(f"SELECT {d} AS d" for d in range(10))
    joins = ", ".join(f"({digits}) d{i}" for i in range(6))
    with source.connect(autocommit=False, read_timeout=900) as connection, connection.cursor() as cursor:
        # Otherwise a scan's row locks fill the small buffer pool.
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        for first in range(0, rows, 1_000_000):
            count = min(rows - first, 1_000_000)
            ids = f"SELECT {first} + {numbers} AS id FROM {joins}"
            cursor.execute(f"INSERT INTO big.t SELECT id, {BODY}, NULL FROM ({ids}) x WHERE id < {first + count}")
        cursor.execute("UPDATE big.t SET n = id WHERE id % 1000 = 1")
        cursor.execute("DELETE FROM big.t WHERE id % 1000 = 2")
        connection.commit()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_transaction_many_times_the_memory_budget(tmp_path: Path, fresh_mysql: Callable[..., MySQLServer]) -> None:
    size = CAMPAIGN if os.environ.get("ROWBACK_CAMPAIGN") else SHORT
    source = fresh_mysql(
        name="big",
        options={"innodb_redo_log_capacity": "256M", "max_binlog_size": "1G", "innodb_buffer_pool_size": "256M"},
    )
    source.load(SCHEMA)
    start = executed(source)
    rowback = Rowback(tmp_path / "rowback", source, extra=f"memory_bytes = {size.memory_mib * MIB}\n")
    rowback.run("capture", "--until-caught-up")
    in_one_transaction(source, size.rows)
    logged = sum(path.stat().st_size for path in source.binlog_files())
    assert logged > size.rows * 1024
    assert logged > 4 * size.memory_mib * MIB or size is CAMPAIGN

    killed = rowback.start_capture("--until-caught-up", failpoint=f"sink.part:{size.kill_at_part}:kill")
    assert ended(killed)[0] == -signal.SIGKILL, rowback.capture_log()[-2000:]
    assert open_context(rowback.config).log.read().last_seq == 0, "nothing of it is visible"
    status, peak_mib = ended(rowback.start_capture("--until-caught-up"))
    assert status == 0, rowback.capture_log()[-2000:]
    print(f"binlog={logged // MIB} MiB peak_rss={peak_mib} MiB rows={size.rows}")
    assert 50 < peak_mib < MOST_RSS_MIB
    if size is SHORT:
        assert_exact(rowback, source, start, purged=True)
    assert folded(rowback) == selected(source)
    state = open_context(rowback.config).log.read()
    assert state.last_seq == 1
    assert len([s for s in state.segments if s.table == "t"]) > 2, "it came in parts"


def ended(process: subprocess.Popen[bytes]) -> tuple[int, int]:
    """Its exit status and its peak resident size in MiB, once it has ended.

    Read from /proc while it lives: the ru_maxrss of wait4 counts what the child was before exec too, a copy of this process.
    """
    peak_kib = 0
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        peak_kib = max(peak_kib, int(lines.get("VmHWM", "0 kB").split()[0]))
        time.sleep(0.02)
    return process.returncode, peak_kib // 1024


Sums = tuple[int, int, int, int]  # rows, sum of ids, sum of n, and the sum of a 32-bit hash of each whole row


def selected(source: MySQLServer) -> Sums:
    row = "CONCAT_WS('/', id, body, n)"
    (sums,) = source.execute(
        f"SELECT COUNT(*), SUM(id), SUM(n), SUM(CAST(CONV(LEFT(SHA2({row}, 256), 8), 16, 10) AS UNSIGNED)) FROM big.t"
    )
    return tuple(int(value) for value in sums)  # type: ignore[return-value]


def folded(rowback: Rowback) -> Sums:
    """The same from the archive, part by part. Each ordinal of the transaction must be there once."""
    context = open_context(rowback.config)
    state = context.log.read()
    count = ids = numbers = hashes = 0
    ordinals = bytearray()
    for segment in (s for s in state.segments if s.table == "t"):
        part = read_segment(context.store, segment).select(["_rb_op", "_rb_ordinal", "id", "body", "n"])
        for batch in part.to_batches(max_chunksize=20_000):
            for op, ordinal, key, body, n in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                if op != "update_after":
                    if ordinal >= len(ordinals):
                        ordinals.extend(bytes(ordinal + 1 - len(ordinals)))
                    assert not ordinals[ordinal], f"ordinal {ordinal} stands twice"
                    ordinals[ordinal] = 1
                # An update_before has no body: the only updates here add `n` to a row whose image of now has it.
                if op == "update_before":
                    body = source_body(key)
                text = f"{key}/{body}" + ("" if n is None else f"/{n}")
                sign = 1 if op in ("insert", "update_after") else -1
                count += sign
                ids += sign * key
                numbers += sign * (n or 0)
                hashes += sign * int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)
    assert all(ordinals), "an ordinal is missing"
    return count, ids, numbers, hashes


def source_body(key: int) -> str:
    return "".join(hashlib.sha512(f"{key}/{i}".encode()).hexdigest() for i in range(8))
