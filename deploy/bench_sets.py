"""The benchmark's binlogs: built once by a real server, kept outside the repository, and served again for each run.

A set is a folder below `<cache>/bench/` named by a hash of what makes it (the workload's source, the server's version, the
scale): the binlog files, the server's identity (auto.cnf) and `facts.json`. `serve` starts a fresh server that has these
binlogs and empty tables of the same definitions, so a run begins with the same bytes whatever ran before it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import bench_load
from testservers import MySQLServer, cache_dir, require

NAMES = ("bulk", "oltp")


@dataclass(frozen=True)
class BinlogSet:
    """A cached set and what is known about it (see bench_load.Loaded)."""

    name: str
    folder: Path
    size_bytes: int
    transactions: int
    changes: dict[str, dict[str, int]]
    final: dict[str, list[str]]

    @property
    def files(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob("binlog.0*"))

    @property
    def row_changes(self) -> int:
        return sum(sum(by_op.values()) for by_op in self.changes.values())

    @property
    def row_images(self) -> int:
        """Images as they stand in the binlog: an update is two."""
        return self.row_changes + sum(by_op["update"] for by_op in self.changes.values())


def cached(name: str, scale: float) -> BinlogSet:
    """The set from the cache; builds it first if it isn't there (bulk at scale 1: a minute or two)."""
    folder = cache_dir() / "bench" / f"{name}-{_key(name, scale)}"
    if not (folder / "facts.json").exists():
        _build(name, scale, folder)
    facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    return BinlogSet(name=name, folder=folder, **facts)


@contextmanager
def serve(binlogs: BinlogSet, folder: Path, *, tls: bool = False) -> Iterator[MySQLServer]:
    """A server on loopback that has these binlogs; its data lies in `folder` and is deleted at the end. Without tls it
    offers none, so that no contender spends time on it (they all take it where it is offered)."""
    facts = require("mysql")
    server = MySQLServer(folder, name=f"bench-{binlogs.name}", options={} if tls else {"tls_version": ""})
    shutil.copytree(facts["MYSQL_TEMPLATE"], server.data_dir)
    for path in binlogs.folder.iterdir():
        if path.name != "facts.json":
            shutil.copy2(path, server.data_dir / path.name)
    with server:
        # What the live server says about the tables is the same as in the binlog, and isn't logged.
        server.load(
            "SET SESSION sql_log_bin = 0; CREATE DATABASE shop CHARACTER SET utf8mb4;" + bench_load.TABLES[binlogs.name]
        )
        yield server


def _key(name: str, scale: float) -> str:
    source = Path(bench_load.__file__).read_bytes()
    told = f"{name} {scale} {require('mysql')['MYSQL_VERSION']}".encode()
    return hashlib.sha256(source + told).hexdigest()[:16]


def _build(name: str, scale: float, folder: Path) -> None:
    """Run the workload on a server of its own, stop it cleanly, and keep its binlogs. Into place with a rename."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="building-", dir=folder.parent) as work:
        server = MySQLServer(Path(work) / "server", name=f"bench-{name}", options=bench_load.LOAD_OPTIONS)
        kept = Path(work) / "kept"
        kept.mkdir()
        with server:
            loaded = bench_load.load(server, name, scale)
            server.stop()
            for path in (*server.binlog_files(), server.data_dir / "binlog.index", server.data_dir / "auto.cnf"):
                shutil.copy2(path, kept / path.name)
        size = sum(path.stat().st_size for path in kept.glob("binlog.0*"))
        (kept / "facts.json").write_text(json.dumps({"size_bytes": size, **asdict(loaded)}, indent=1), encoding="utf-8")
        if not folder.exists():
            kept.rename(folder)
