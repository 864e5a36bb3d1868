"""Snapshots: a mydumper dump with coordinates of our own, uploaded as it is, and the typed base state parsed from it."""

from recovery.snapshot.request import Progress, SnapshotRequest, SnapshotResult
from recovery.snapshot.take import take_snapshot

__all__ = ["Progress", "SnapshotRequest", "SnapshotResult", "take_snapshot"]
