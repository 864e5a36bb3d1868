"""status as a pure function of an archive's state: which snapshots are usable, and why the others aren't."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from handmade import ORDERS, T0, UUID, Archive, insert

from recovery import status
from recovery.archive.actions import Checkpoint
from recovery.errors import TargetOutsideCoverage
from recovery.target import parse_target, resolve


def reasons(archive: Archive) -> dict[str, str]:
    built = status.build(
        archive.state, server="shop", tenant="default", archive="file:///a", now=datetime(2026, 1, 2, tzinfo=UTC)
    )
    assert all(line.usable == (line.reason == "") for line in built.snapshots)
    return {line.snapshot_id: line.reason for line in built.snapshots}


def snap(archive: Archive, name: str, seq: int) -> None:
    archive.snapshot(name, archive.mark(seq), archive.mark(seq), archive.baseline(name, ORDERS, [], "CREATE TABLE ..."))


def filled(root: Path) -> Archive:
    archive = Archive(root)
    archive.window(*(insert(ORDERS, id=n, v="x") for n in range(1, 11)))
    return archive


def test_a_snapshot_ahead_of_the_stream_waits(tmp_path: Path) -> None:
    archive = filled(tmp_path)
    snap(archive, "held", 5)
    snap(archive, "ahead", 12)
    assert reasons(archive) == {"held": "", "ahead": "waiting for the stream to reach the snapshot's end"}


def test_a_snapshot_behind_an_open_gap_does_not_wait_for_ever(tmp_path: Path) -> None:
    archive = filled(tmp_path)
    snap(archive, "held", 5)
    archive.commit(archive.gap(10))
    snap(archive, "behind", 12)
    assert reasons(archive) == {"held": "", "behind": "cut off by the gap at binlog.000001:10900"}
    archive.window(*(insert(ORDERS, id=n, v="x") for n in range(11, 14)))  # capture went on where it had stopped
    assert reasons(archive) == {"held": "", "behind": ""}


def test_a_snapshot_inside_a_gap_is_cut_off_and_one_after_it_is_not(tmp_path: Path) -> None:
    archive = filled(tmp_path)
    at = T0 + 10_000_000
    archive.commit(archive.gap(10, 15_000), Checkpoint(10, "binlog.000001", 15_000, f"{UUID}:1-14", at, at))
    snap(archive, "inside", 12)
    snap(archive, "after", 15)
    assert reasons(archive) == {
        "inside": "cut off by the gap at binlog.000001:10900",
        "after": "waiting for the stream to reach the snapshot's end",
    }


def test_a_stop_that_was_skipped_is_one_gap_and_a_snapshot_behind_it_waits_for_a_transaction(tmp_path: Path) -> None:
    """Nothing names the state right behind a gap: `--to latest` is refused until a transaction has come."""

    def lines(archive: Archive) -> list[tuple[str, str | None, bool]]:
        now = datetime(2026, 1, 2, tzinfo=UTC)
        built = status.build(archive.state, server="shop", tenant="t", archive="file:///a", now=now)
        return [(gap.from_position, gap.to_position, gap.closed) for gap in built.gaps]

    archive = filled(tmp_path)
    archive.commit(archive.gap(10))
    assert lines(archive) == [("binlog.000001:10900", None, False)]
    at = T0 + 10_000_000
    archive.commit(archive.gap(10, 10_950), Checkpoint(10, "binlog.000001", 10_950, archive.gtid_set(10), at, at))
    behind = archive.mark(10, position=10_950)
    archive.snapshot("behind", behind, behind, archive.baseline("behind", ORDERS, [], "CREATE TABLE ..."))
    skipped = [("binlog.000001:10900", "binlog.000001:10950", False)]
    assert lines(archive) == skipped
    assert reasons(archive) == {"behind": "waiting for the first transaction behind the gap at binlog.000001:10900"}
    with pytest.raises(TargetOutsideCoverage, match="lies inside the gap") as refused:
        resolve(archive.store, archive.state, parse_target("latest"))
    assert "first transaction that is captured behind the gap" in refused.value.hint
    archive.window(insert(ORDERS, id=11, v="x"))
    assert reasons(archive) == {"behind": ""}
    assert resolve(archive.store, archive.state, parse_target("latest")).seq == 11
    archive.commit(archive.gap(11))  # and it stops again, somewhere else
    assert lines(archive) == [*skipped, ("binlog.000001:11900", None, False)]


def test_a_new_snapshot_is_asked_for_behind_a_gap_and_while_there_is_none(tmp_path: Path) -> None:
    def needed(archive: Archive) -> str | None:
        now = datetime(2026, 1, 2, tzinfo=UTC)
        return status.build(archive.state, server="shop", tenant="t", archive="file:///a", now=now).snapshot_needed

    archive = filled(tmp_path)
    assert needed(archive) == "none was taken yet"
    snap(archive, "held", 5)
    assert needed(archive) is None
    archive.commit(archive.gap(10))
    assert needed(archive) is None, "capture stopped; nothing is known to be missing"
    at = T0 + 10_000_000
    archive.commit(archive.gap(10, 15_000), Checkpoint(10, "binlog.000001", 15_000, f"{UUID}:1-14", at, at))
    assert needed(archive) == "none was taken since the gap at binlog.000001:10900"
    snap(archive, "after", 15)
    assert needed(archive) is None


def test_rates_are_means_of_what_was_covered_last(tmp_path: Path) -> None:
    archive = filled(tmp_path)
    built = status.build(
        archive.state, server="shop", tenant="t", archive="file:///a", now=datetime(2026, 1, 2, tzinfo=UTC)
    )
    assert built.rates == status.Rates(600, 10 / 600, 10 / 600)
