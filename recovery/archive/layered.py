"""An archive with a few objects of one's own on top of it, which only this process sees."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from recovery.archive.filestore import FileStore
from recovery.archive.store import HeldBack, ObjectInfo, Store, Tiered


class LayeredStore:
    """A store (recovery/archive/store.py) that reads an object from `own` where that has it, else from `below`, and writes
    to `own` alone. `list` shows what is below."""

    def __init__(self, own: FileStore, below: Store) -> None:
        self._own, self._below = own, below
        self.url = below.url

    def get(self, key: str) -> bytes:
        return self._holder(key).get(key)

    def download(self, key: str, path: Path) -> None:
        self._holder(key).download(key, path)

    def stat(self, key: str) -> ObjectInfo | None:
        return self._own.stat(key) or self._below.stat(key)

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        return self._below.list(prefix, start_after)

    def put(self, key: str, body: bytes) -> None:
        self._own.put(key, body)

    def put_if_absent(self, key: str, body: bytes) -> None:
        self._own.put_if_absent(key, body)

    def upload(self, key: str, path: Path) -> None:
        self._own.upload(key, path)

    def delete(self, key: str) -> None:
        self._own.delete(key)

    def held_back(self, key: str) -> HeldBack | None:
        return self._below.held_back(key) if isinstance(self._below, Tiered) and self._own.stat(key) is None else None

    def thaw(self, key: str, days: int, tier: str) -> None:
        assert isinstance(self._below, Tiered), "only what is held back is asked for"
        self._below.thaw(key, days, tier)

    def _holder(self, key: str) -> Store:
        return self._below if self._own.stat(key) is None else self._own
