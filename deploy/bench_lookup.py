"""How fast one key's history is found: `python deploy/bench_lookup.py ARCHIVE [--compact] [--until SEQ]`.

ARCHIVE is a folder of bench_archive.py. Seconds are inside the process, after imports: opening the archive (the index and
the log's tail) and the query stand apart. Each key is asked once; the files may lie in the page cache.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from recovery.archive.compaction import Policy
from recovery.archive.compactor import Compactor
from recovery.archive.filestore import FileStore
from recovery.archive.log import Log
from recovery.archive.names import Layout
from recovery.changes import ChangeQuery, changes

LAYOUT = Layout("default", "bench")


def compact(root: Path) -> float:
    store = FileStore(root)
    log = Log(store, LAYOUT)
    state = log.read()
    newest = state.checkpoint
    assert newest is not None
    if newest.covered_to_us < newest.cut_at_us + 3_600_000_000:  # the hour isn't over yet for capture
        later = replace(newest, covered_to_us=newest.cut_at_us + 7_200_000_000)
        state = log.commit(state, lambda _: [later])
    begun = time.perf_counter()
    Compactor(store, LAYOUT, log, Policy()).run(state)
    return time.perf_counter() - begun


def measure(root: Path, keys: int = 15, until: str | None = None) -> dict[str, Any]:
    """Histories of keys drawn at random. until: as `rowback changes --until`, to look at a part of the archive."""
    store = FileStore(root)
    begun = time.perf_counter()
    state = Log(store, LAYOUT).read()
    opened = time.perf_counter() - begun
    baseline = state.snapshots[0].baselines[0]
    seconds, found = [], 0
    for key in np.random.default_rng(3).integers(0, baseline.rows, keys) * 2:
        query = ChangeQuery(("bench", "big"), key=str(key), until=until)
        begun = time.perf_counter()
        found += len(changes(store, state, query).changes)
        seconds.append(time.perf_counter() - begun)
    return {
        "segments": len(state.segments),
        "changes": sum(s.inserts + s.updates + s.deletes for s in state.segments),
        "opened_s": opened,
        "median_s": median(seconds),
        "slowest_s": max(seconds),
        "cpu_s": time.process_time(),
        "found": found,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--until")
    parser.add_argument("--compact", action="store_true", help="compact first")
    given = parser.parse_args()
    spent = compact(given.archive) if given.compact else None
    print(json.dumps({"compaction_s": spent} | measure(given.archive, until=given.until), indent=1))


if __name__ == "__main__":
    main()
