"""Measured processes: each contender runs as a child of its own, and the kernel says what it used (wait4).

Wall time, user and system CPU time and peak resident memory are of that process (and of children it waited for), not of the
server, whose share of the machine every contender pays alike. Linux hands a parent's resident peak down to its children:
what is below this process's own peak (`rss_floor_bytes`) can't be told, so this module and whoever imports it stay small.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench_sets import BinlogSet
from testservers import MySQLServer

ROOT = Path(__file__).resolve().parent.parent
REPLICATION_ROWS = 30_000  # how far mysql-replication goes at most; the whole would take minutes
_STARTED = re.compile(r"capture started")
_COMMITTED = re.compile(r"window committed")


class BenchFailed(RuntimeError):
    """A contender didn't do its work."""


@dataclass(frozen=True)
class Run:
    """One contender over one set. seconds: of streaming, as the contender's function says; rows, transactions, size_bytes:
    of the binlog that it went through; disk_bytes, commits: of the archive it wrote; part: the share of the set it saw."""

    tool: str
    seconds: float
    wall_s: float
    cpu_s: float
    peak_rss_bytes: int
    rows: int
    transactions: int
    size_bytes: int
    startup_s: float = 0.0
    part: float = 1.0
    disk_bytes: int = 0
    commits: int = 0
    rss_floor_bytes: int = field(default_factory=lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


@dataclass(frozen=True)
class Usage:
    """What a process used; output: its standard output; lines: when each line of its standard error arrived."""

    wall_s: float
    cpu_s: float
    peak_rss_bytes: int
    output: str
    lines: list[tuple[float, str]] = field(default_factory=list)


def measured(
    command: Sequence[str], *, cwd: Path, environment: Mapping[str, str] | None = None, discard: bool = False
) -> Usage:
    """Run a command to its end. discard: its output goes to /dev/null. Raises BenchFailed with its error output."""
    with tempfile.TemporaryFile() as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if discard else output,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        assert process.stderr is not None
        lines = [(time.perf_counter() - started, line) for line in process.stderr]
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read().decode(errors="replace")
    if process.returncode:
        raise BenchFailed(f"{' '.join(command)} ended with {process.returncode}:\n{''.join(line for _, line in lines)}")
    return Usage(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, text, lines)


def raw_fetch(binlogs: BinlogSet, server: MySQLServer, folder: Path) -> Run:
    """The binlog off the socket, nothing looked at. seconds: from the dump command to the last packet."""
    command = [sys.executable, str(ROOT / "deploy" / "bench_peers.py"), "raw", str(server.port), *binlogs.files]
    command += ["--size", str(binlogs.size_bytes)]
    used = measured(command, cwd=folder)
    return _run("raw fetch", binlogs, used, json.loads(used.output)["seconds"])


def raw_to_disk(binlogs: BinlogSet, server: MySQLServer, folder: Path) -> Run:
    """`mysqlbinlog --raw`: the binlog off the socket into files. seconds: the whole process."""
    command = server.mysqlbinlog_command("--raw", "--result-file=raw-", *binlogs.files, remote=True)
    used = measured(command, cwd=folder)
    for path in folder.glob("raw-*"):
        path.unlink()
    return _run("mysqlbinlog --raw", binlogs, used, used.wall_s)


def mysqlbinlog(binlogs: BinlogSet, server: MySQLServer, folder: Path) -> Run:
    """`mysqlbinlog -vv` over the network, its text to /dev/null. seconds: the whole process."""
    command = server.mysqlbinlog_command("-vv", "--base64-output=decode-rows", *binlogs.files, remote=True)
    used = measured(command, cwd=folder, discard=True)
    return _run("mysqlbinlog -vv", binlogs, used, used.wall_s)


def mysql_replication(binlogs: BinlogSet, server: MySQLServer, folder: Path) -> Run:
    """mysql-replication over the set's first part. seconds: from its first event to its last, without start-up."""
    # As many transactions as it takes; a set of single rows has one row each.
    wanted = min(REPLICATION_ROWS, binlogs.row_changes // 2)
    peers = str(ROOT / "deploy" / "bench_peers.py")
    command = [sys.executable, peers, "replication", str(server.port), *binlogs.files, "--rows", str(wanted)]
    used = measured(command, cwd=folder)
    seen = json.loads(used.output)
    return Run(
        tool="mysql-replication",
        seconds=seen["seconds"],
        wall_s=used.wall_s,
        cpu_s=used.cpu_s,
        peak_rss_bytes=used.peak_rss_bytes,
        rows=seen["rows"],
        transactions=seen["transactions"],
        size_bytes=seen["bytes"],
        part=seen["rows"] / binlogs.row_changes,
    )


def rowback(binlogs: BinlogSet, server: MySQLServer, folder: Path) -> Run:
    """`rowback capture --until-caught-up` from the binlog's beginning into a new archive in `folder`.

    seconds: from the log line that says capture has started (settings read, connected, first checkpoint committed, dump
    asked for) to the one that says the last window is committed: objects written and fsynced, log version created.
    startup_s: from the process's start to the first of these lines: the interpreter, imports, compiled kernels loaded.
    """
    archive = folder / "archive"
    shutil.rmtree(archive, ignore_errors=True)
    (folder / "rowback.toml").write_text(
        f'[archive]\nroot = "file://{archive}"\n\n[servers.bench]\nhost = "{server.host}"\nport = {server.port}\n'
        f'user = "{server.user}"\npassword_env = "BENCH_PASSWORD"\n'
    )
    environment = {
        "ROWBACK_CONFIG": str(folder / "rowback.toml"),
        "BENCH_PASSWORD": server.password,
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-c", "from recovery.cli import main; main()", "capture", "--until-caught-up"]
    used = measured([*command, "--from-earliest"], cwd=folder, environment=environment)
    started = [at for at, line in used.lines if _STARTED.search(line)]
    committed = [at for at, line in used.lines if _COMMITTED.search(line)]
    if not started or not committed:
        raise BenchFailed(
            f"capture's log says nothing of its start or its commits:\n{''.join(x for _, x in used.lines)}"
        )
    return Run(
        tool="rowback",
        seconds=committed[-1] - started[0],
        wall_s=used.wall_s,
        cpu_s=used.cpu_s,
        peak_rss_bytes=used.peak_rss_bytes,
        rows=binlogs.row_changes,
        transactions=binlogs.transactions,
        size_bytes=binlogs.size_bytes,
        startup_s=started[0],
        disk_bytes=sum(path.stat().st_size for path in archive.rglob("*") if path.is_file()),
        commits=len(committed),
    )


def _run(tool: str, binlogs: BinlogSet, used: Usage, seconds: float) -> Run:
    return Run(
        tool=tool,
        seconds=seconds,
        wall_s=used.wall_s,
        cpu_s=used.cpu_s,
        peak_rss_bytes=used.peak_rss_bytes,
        rows=binlogs.row_changes,
        transactions=binlogs.transactions,
        size_bytes=binlogs.size_bytes,
    )
