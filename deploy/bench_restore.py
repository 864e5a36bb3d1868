"""How fast a restore merges and writes: `python deploy/bench_restore.py --rows 2000000 --changes 2000000`.

Builds a synthetic archive (bench_archive.py), restores it in a process of its own and compares the files with what NumPy
followed beside it; then rolls a baseline forward to the same place and restores from that. Peak memory is VmHWM of that
process, which a child doesn't inherit from its parent (ru_maxrss is inherited over exec).
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import bench_archive
import bench_replay

FILES_FASTER = 5.0

_CHILD = """
import json, sys, time
from pathlib import Path
from recovery.archive.filestore import FileStore
from recovery.archive.log import Log
from recovery.archive.names import Layout
from recovery.restore import RestoreRequest, restore
from recovery.sizes import parse_memory
root, output, memory, scratch = sys.argv[1:]
store = FileStore(Path(root))
state = Log(store, Layout("default", "bench")).read()
begun = time.perf_counter()
result = restore(store, state, RestoreRequest(
    "latest", output=Path(output), memory_limit_bytes=parse_memory(memory), scratch_dir=Path(scratch)))
seconds = time.perf_counter() - begun
peak = next(int(l.split()[1]) * 1024 for l in open("/proc/self/status") if l.startswith("VmHWM"))
print(json.dumps({"seconds": seconds, "peak_rss_bytes": peak, "rows": result.rows,
    "written_bytes": sum(f.size_bytes for t in result.tables for f in t.files), "digest": result.tables[0].digest}))
"""

_ROLL_FORWARD = """
import json, sys, time
from pathlib import Path
from recovery.archive.filestore import FileStore
from recovery.archive.log import Log
from recovery.archive.names import Layout
from recovery.context import utc_now
from recovery.roll_forward import RollForwardRequest, roll_forward
from recovery.sizes import parse_memory
root, memory, scratch = sys.argv[1:]
store, layout = FileStore(Path(root)), Layout("default", "bench")
log = Log(store, layout)
begun = time.perf_counter()
made = roll_forward(store, log.read(), store, layout, log, RollForwardRequest(
    "latest", memory_limit_bytes=parse_memory(memory), scratch_dir=Path(scratch)), now=utc_now)
seconds = time.perf_counter() - begun
peak = next(int(l.split()[1]) * 1024 for l in open("/proc/self/status") if l.startswith("VmHWM"))
print(json.dumps({"seconds": seconds, "peak_rss_bytes": peak, "rows": made.rows, "size_bytes": made.snapshot.size_bytes}))
"""


def synthetic(folder: Path, rows: int, changes: int, memory: str = "1GiB") -> dict[str, Any]:
    """Build, restore, check. folder: for archive, scratch and output; it needs about 600 bytes per row."""
    begun = time.perf_counter()
    _, truth = bench_archive.build(folder / "archive", rows, changes)
    expected, built_s = truth.sums(), time.perf_counter() - begun
    del truth
    print(f"built in {built_s:.1f} s", file=sys.stderr, flush=True)
    size = sum(p.stat().st_size for p in (folder / "archive").rglob("*.parquet"))
    found = restored(folder, memory)
    actual = bench_archive.counted(folder / "output")
    facts = {"base_rows": rows, "changes": changes, "archive_bytes": size, "memory": memory, "built_s": built_s}
    shutil.rmtree(folder / "output")
    rolled = child(_ROLL_FORWARD, str(folder / "archive"), memory, str(folder / "scratch"))
    again = restored(folder, memory)
    rolled["right"], rolled["restore_s"] = again["digest"] == found["digest"], again["seconds"]
    checked = {"right": actual == expected, "expected": asdict(expected), "actual": asdict(actual)}
    return facts | found | checked | {"roll_forward": rolled}


def restored(folder: Path, memory: str) -> dict[str, Any]:
    """One restore of `folder`/archive into `folder`/output by a new process."""
    (folder / "scratch").mkdir(exist_ok=True)
    return child(_CHILD, str(folder / "archive"), str(folder / "output"), memory, str(folder / "scratch"))


def child(program: str, *arguments: str) -> dict[str, Any]:
    """What a new process that runs this says of itself."""
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"it failed:\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def part(scale: float) -> dict[str, Any]:
    """What `make bench ARGS="--sets restore"` measures: a synthetic restore of two million rows and changes, and a
    high-churn table beside `mysqlbinlog | mysql`."""
    rows = max(1_000, round(2_000_000 * scale))
    with tempfile.TemporaryDirectory(prefix="rowback-bench-") as folder:
        (Path(folder) / "big").mkdir()
        (Path(folder) / "churn").mkdir()
        return {
            "synthetic": synthetic(Path(folder) / "big", rows, rows),
            "churn": bench_replay.measure(Path(folder) / "churn", scale),
        }


def text(found: dict[str, Any]) -> str:
    """The tables of `part`, for a terminal."""
    big, churn, rolled = found["synthetic"], found["churn"], found["synthetic"]["roll_forward"]
    mark = "reached" if churn["files_faster"] >= FILES_FASTER else "MISSED"
    speed = f"{big['rows'] / big['seconds']:,.0f} rows/s written ({big['written_bytes'] / 1e6:.0f} MB)"
    rolled_speed = f"{rolled['rows'] / rolled['seconds']:,.0f} rows/s ({rolled['size_bytes'] / 1e6:.0f} MB)"
    lines = [
        f"restore: {big['base_rows']:,} rows and {big['changes']:,} changes, memory limit {big['memory']}",
        f"  {big['seconds']:.1f} s, {speed}, peak {big['peak_rss_bytes'] / 1e6:.0f} MB",
        f"  rows as NumPy followed them: {'yes' if big['right'] else 'NO'}",
        f"roll-forward of the same: {rolled['seconds']:.1f} s, {rolled_speed}, peak {rolled['peak_rss_bytes'] / 1e6:.0f} MB",
        f"  a restore from it: {rolled['restore_s']:.1f} s, the same rows: {'yes' if rolled['right'] else 'NO'}",
        "",
        f"high churn: {churn['rows']:,} rows, {churn['updates']:,} updates, {churn['binlog_bytes'] / 1e6:.0f} MB of binlog",
        f"{'':32} {'seconds':>8}",
        f"{'rowback restore, files':32} {churn['rowback_files_s']:8.2f}",
        f"{'  loading them with mysql':32} {churn['load_s']:8.2f}",
        f"{'mysqlbinlog | mysql':32} {churn['replay_s']:8.2f}",
        f"{'  loading its snapshot before':32} {churn['snapshot_load_s']:8.2f}",
        f"  {mark}: files at least {FILES_FASTER:g}x faster than the replay: {churn['files_faster']:.1f}x",
        f"  with all loading: {churn['whole_faster']:.1f}x",
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--changes", type=int, default=20_000_000)
    parser.add_argument("--memory", default="1GiB")
    parser.add_argument("--folder", type=Path, help="keep everything there, for another look")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rowback-bench-") as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        found = synthetic(folder, given.rows, given.changes, given.memory)
    print(json.dumps(found, indent=1))
    return 0 if found["right"] and found["roll_forward"]["right"] and found["peak_rss_bytes"] <= 1024**3 else 1


if __name__ == "__main__":
    sys.exit(main())
