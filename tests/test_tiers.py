"""Objects in an archive tier, in a real S3 dialogue (moto): named before anything is written, asked for, waited for.

moto knows GLACIER and DEEP_ARCHIVE; Intelligent-Tiering's archive access it doesn't, so that isn't tried here.
"""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from handmade import ORDERS, Archive, update
from test_restore_synthetic import CREATE, rows_in

from recovery import cli
from recovery.archive.s3store import S3Store
from recovery.config import S3Settings
from recovery.errors import ConfigError, ObjectArchived
from recovery.restore import RestoreRequest, RestoreResult, restore
from recovery.tiers import Thaw
from testservers import MotoServer, S3Bucket

ROWS = ["(1,'A')", "(2,'b')"]


def slow_retrieval(moto: MotoServer, looks: int) -> None:
    """A readable copy is there after so many looks at the object."""
    progression = {"progression": "manual", "times": looks} if looks else {"progression": "immediate"}
    body = json.dumps({"model_name": "s3::keyrestore", "transition": progression}).encode()
    url = f"{moto.endpoint_url}/moto-api/state-manager/set-transition"
    urllib.request.urlopen(urllib.request.Request(url, body, {"Content-Type": "application/json"}), timeout=10).close()


@pytest.fixture
def slow(moto: MotoServer) -> Iterator[None]:
    slow_retrieval(moto, 3)
    yield
    slow_retrieval(moto, 0)


class Tiers:
    """A small archive in a bucket, whose objects move to a tier as a lifecycle rule would do it: by a copy in place."""

    def __init__(self, root: Path, bucket: S3Bucket) -> None:
        self.bucket, self.client = bucket, bucket.client()
        self.archive = archive = Archive(root)
        archive.window(update(ORDERS, {"id": 1, "v": "a"}, {"id": 1, "v": "A"}))
        start = [({"id": 1, "v": "a"}, {}), ({"id": 2, "v": "b"}, {})]
        archive.snapshot("s0", archive.mark(0), archive.mark(0), archive.baseline("s0", ORDERS, start, CREATE))
        for info in archive.store.list(""):
            self.client.put_object(Bucket=bucket.name, Key=info.key, Body=archive.store.get(info.key))
        self.store = S3Store(bucket.name, "", S3Settings(endpoint_url=bucket.endpoint_url, region=bucket.region))
        self.base = archive.state.snapshots[0].baselines[0].objects[0].path
        self.change = archive.state.segments[0].path

    def move(self, tier: str, *keys: str) -> None:
        for key in keys:
            body = self.archive.store.get(key)
            self.client.put_object(Bucket=self.bucket.name, Key=key, Body=body, StorageClass=tier)

    def copies(self, key: str) -> str:
        return str(self.client.head_object(Bucket=self.bucket.name, Key=key).get("Restore", ""))

    def restore(self, output: Path | None, notes: list[str] | None = None, **given: Any) -> RestoreResult:
        told = [] if notes is None else notes
        request = RestoreRequest("latest", output=output, **given)
        return restore(self.store, self.archive.state, request, lambda p: told.append(p.note) if p.note else None)


@pytest.fixture
def tiers(tmp_path: Path, s3_bucket: S3Bucket) -> Tiers:
    return Tiers(tmp_path / "archive", s3_bucket)


def test_without_thaw_the_objects_are_named_and_nothing_is_written_or_asked_for(tiers: Tiers, tmp_path: Path) -> None:
    tiers.move("DEEP_ARCHIVE", tiers.base)
    tiers.move("GLACIER", tiers.change)
    plan = tiers.restore(None, dry_run=True).plan
    for key, tier in ((tiers.base, "DEEP_ARCHIVE"), (tiers.change, "GLACIER")):
        assert any(key in line and tier in line for line in plan.warnings)
    with pytest.raises(ObjectArchived) as refused:
        tiers.restore(tmp_path / "out")
    assert tiers.base in refused.value.message
    assert tiers.change in refused.value.message
    assert sorted(p.name for p in tmp_path.iterdir()) == ["archive"]
    assert tiers.copies(tiers.base) == tiers.copies(tiers.change) == ""


@pytest.mark.usefixtures("slow")
def test_thaw_asks_waits_and_restores_the_right_rows(tiers: Tiers, tmp_path: Path) -> None:
    tiers.move("GLACIER", tiers.base, tiers.change)
    notes: list[str] = []
    tiers.restore(tmp_path / "out", notes, thaw=Thaw(poll_s=0.01))
    assert rows_in(tmp_path / "out") == ROWS
    assert "asked for 2 objects" in notes[0]
    assert "all 2 objects" in notes[-1]


@pytest.mark.usefixtures("slow")
def test_without_waiting_it_asks_once_and_says_so(tiers: Tiers, tmp_path: Path) -> None:
    tiers.move("GLACIER", tiers.base)
    with pytest.raises(ObjectArchived, match="asked for"):
        tiers.restore(tmp_path / "out", thaw=Thaw(wait=False))
    assert tiers.copies(tiers.base)
    tiers.restore(tmp_path / "out", thaw=Thaw(poll_s=0.01))
    assert rows_in(tmp_path / "out") == ROWS


def test_what_planning_reads_is_asked_for_too(tiers: Tiers, tmp_path: Path) -> None:
    transactions = tiers.archive.state.transactions[0].path
    tiers.move("GLACIER", transactions)
    with pytest.raises(ObjectArchived, match=os.path.basename(transactions)):
        restore(tiers.store, tiers.archive.state, RestoreRequest("binlog.000001:1900", output=tmp_path / "out"))
    request = RestoreRequest("binlog.000001:1900", output=tmp_path / "out", thaw=Thaw(poll_s=0.01))
    restore(tiers.store, tiers.archive.state, request)
    assert rows_in(tmp_path / "out") == ROWS


def test_classes_that_are_read_at_once_and_folders_hold_nothing_back(tiers: Tiers, tmp_path: Path) -> None:
    tiers.move("GLACIER_IR", tiers.base)
    tiers.move("STANDARD_IA", tiers.change)
    assert tiers.restore(None, dry_run=True).plan.warnings == ()
    assert tiers.store.held_back(tiers.base) is None
    restore(tiers.archive.store, tiers.archive.state, RestoreRequest("latest", output=tmp_path / "out"))
    assert rows_in(tmp_path / "out") == ROWS


def test_the_command_takes_the_choices(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["restore", "--to", "latest", "--dry-run", "--no-wait"]) == ConfigError.exit_status
    assert "--thaw" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="Slow"):
        Thaw("Slow")
