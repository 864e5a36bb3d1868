"""`make bench`: how fast capture is, against the raw fetch of the binlog, mysqlbinlog -vv and mysql-replication.

Builds two binlogs on a real MySQL once (bench_load.py says what is in them; cached outside the repository), then lets each
contender read them from a server over loopback, in turn and in rounds, and prints, and writes to build/bench.json and
build/bench.png, what it took. The archive of the last round is compared with what the server held (bench_verify.py). The
exit status is 0 if that is right; figures that miss their targets are reported and fail nothing.

    make bench                               # everything, about two minutes, the first time about one more
    make bench ARGS="--scale 0.1 --rounds 1" # a tenth of the rows
    make bench ARGS="--sets oltp --only rowback"
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import bench_measure
import bench_report
import bench_sets
from bench_measure import ROOT, BenchFailed, Run
from bench_sets import BinlogSet
from testservers import MySQLServer, ServerMissingError, cache_dir, require

Contender = Callable[[BinlogSet, MySQLServer, Path], Run]
CONTENDERS: dict[str, Contender] = {
    "raw": bench_measure.raw_fetch,
    "raw-disk": bench_measure.raw_to_disk,
    "mysqlbinlog": bench_measure.mysqlbinlog,
    "replication": bench_measure.mysql_replication,
    "rowback": bench_measure.rowback,
}
SETS = (*bench_sets.NAMES, "restore")
ONCE = frozenset({"replication", "raw-disk"})  # slow, or a second opinion: measured in the first round alone


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the rows, 1.0 for the whole sets")
    parser.add_argument("--rounds", type=int, default=3, help="how often each contender runs; the median counts")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--only", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS))
    parser.add_argument("--tls", action="store_true", help="encrypted connections (all contenders use them if offered)")
    parser.add_argument("--output", type=Path, default=ROOT / "build", help="folder of bench.json and bench.png")
    parser.add_argument("--keep", type=Path, help="folder that keeps the last archives, to look into")
    given = parser.parse_args(arguments)
    try:
        require("mysql")
    except ServerMissingError as error:
        print(error, file=sys.stderr)
        return 1
    try:
        report = run(given.sets, given.scale, given.rounds, given.only, given.keep, tls=given.tls)
    except BenchFailed as error:
        print(error, file=sys.stderr)
        return 1
    given.output.mkdir(parents=True, exist_ok=True)
    written = given.output / "bench.json"
    written.write_text(json.dumps(report, indent=1), encoding="utf-8")
    if report["sets"]:
        print(bench_report.text(report))
        subprocess.run(
            [sys.executable, bench_report.__file__, str(written), str(given.output / "bench.png")], check=True
        )
    if "restore" in report:
        import bench_restore

        print("\n" + bench_restore.text(report["restore"]))
    print(f"\nwritten: {written}{' and bench.png beside it' if report['sets'] else ''}")
    if not report.get("restore", {"synthetic": {"right": True}})["synthetic"]["right"]:
        return 1
    return 1 if any(one.get("check", {}).get("different") for one in report["sets"].values()) else 0


def run(
    names: Sequence[str], scale: float, rounds: int, only: Sequence[str], keep: Path | None = None, *, tls: bool = False
) -> dict[str, Any]:
    """Measure. The result is what bench.json holds."""
    report: dict[str, Any] = {
        "machine": machine(),
        "python": platform.python_version(),
        "mysql": require("mysql")["MYSQL_VERSION"],
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "load_before": os.getloadavg()[0],
        "scale": scale,
        "tls": tls,
        "sets": {},
    }
    for name in names:
        if name == "restore":
            continue
        binlogs = bench_sets.cached(name, scale)
        # Beside the cache: memory-backed /tmp folders would take the file system out of the measurement.
        with tempfile.TemporaryDirectory(prefix="run-", dir=cache_dir() / "bench") as work:
            folder = keep / name if keep else Path(work)
            folder.mkdir(parents=True, exist_ok=True)
            with bench_sets.serve(binlogs, Path(work) / "server", tls=tls) as server:
                report["sets"][name] = _measure(binlogs, server, folder, rounds, only)
    if "restore" in names:
        import bench_restore  # last: its imports take memory that children would inherit as a peak

        report["restore"] = bench_restore.part(scale)
    report["load_after"] = os.getloadavg()[0]
    return report


def _measure(binlogs: BinlogSet, server: MySQLServer, folder: Path, rounds: int, only: Sequence[str]) -> dict[str, Any]:
    runs: dict[str, list[dict[str, Any]]] = {}
    if "rowback" in only:
        _tell(f"{binlogs.name}: warming up (compiled kernels, page cache)")
        bench_measure.rowback(binlogs, server, folder)
    for number in range(rounds):
        for key in CONTENDERS:
            if key not in only or (number and key in ONCE):
                continue
            done = CONTENDERS[key](binlogs, server, folder)
            runs.setdefault(done.tool, []).append(asdict(done))
            _tell(
                f"{binlogs.name}: round {number + 1} of {rounds}, {done.tool}: {done.seconds:.2f} s, CPU {done.cpu_s:.2f} s"
            )
    found = {
        "size_bytes": binlogs.size_bytes,
        "row_changes": binlogs.row_changes,
        "row_images": binlogs.row_images,
        "transactions": binlogs.transactions,
        "runs": runs,
    }
    return found | {"check": _check(binlogs, folder)} if "rowback" in only else found


def _check(binlogs: BinlogSet, folder: Path) -> dict[str, Any]:
    """The last archive against the facts, in a process of its own: it takes memory that children would inherit as a peak."""
    script = str(ROOT / "deploy" / "bench_verify.py")
    command = [sys.executable, script, str(folder / "archive"), str(binlogs.folder / "facts.json")]
    done = subprocess.run(command, capture_output=True, text=True)
    if not done.stdout:
        raise BenchFailed(f"the archive can't be checked:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def machine() -> str:
    """In general terms: processor, cores this process may use, memory."""
    cpu = platform.processor() or platform.machine()
    memory = 0.0
    try:
        if found := re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8")):
            cpu = found[1].strip()
        if found := re.search(r"MemTotal:\s*(\d+) kB", Path("/proc/meminfo").read_text(encoding="utf-8")):
            memory = int(found[1]) / (1 << 20)
    except OSError:
        pass
    return f"{cpu}, {len(os.sched_getaffinity(0))} cores, {memory:.0f} GB of memory, {platform.system()}"


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
