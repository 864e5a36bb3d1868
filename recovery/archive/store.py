"""The boundary to the place where an archive lives: eight verbs over named, immutable objects.

Promises of every store (tests/test_store_contract.py holds both to them):
- a write that returned is durable, and an object is never seen half-written under its name;
- `put_if_absent` lets exactly one of any number of concurrent writers win;
- `list` is in ascending byte order of the UTF-8 keys and shows objects only, never a store's own temporary files;
- every failure is an error of the tree in recovery/errors.py with the key and the store's address in it, never
  credentials.

It doesn't retry for longer than the back end's own bounded retries: waiting out an outage is the caller's decision.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol, runtime_checkable
from urllib.parse import unquote

from recovery.config import ArchiveSettings
from recovery.errors import ConfigError, ObjectExists, ObjectNotFound, StoreError, StoreNotConditional

TEMP_PREFIX = ".rb-tmp-"  # file names of unfinished writes; no key may hold a part that begins so
MAX_KEY_BYTES = 1024  # S3 User Guide, "Naming Amazon S3 objects"
_BUCKET = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{1,254}")


@dataclass(frozen=True)
class ObjectInfo:
    """One object. modified_at: aware, UTC, by the store's clock."""

    key: str
    size_bytes: int
    modified_at: datetime


class Store(Protocol):
    """Keys are `/`-separated, relative to the archive's root, without empty, `.` or `..` parts.

    Every method may raise StoreUnavailable (retryable) or StoreError; StoreFull where a write finds no space.
    """

    url: str

    def get(self, key: str) -> bytes:
        """The whole object. Raises ObjectNotFound."""
        ...

    def put(self, key: str, body: bytes) -> None:
        """Write or overwrite; idempotent; durable when it returns."""
        ...

    def put_if_absent(self, key: str, body: bytes) -> None:
        """Write only if there is no such object. Raises ObjectExists if there is one (it may be this caller's own,
        after an answer that was lost underneath), and StoreUnavailable where the outcome is unknown: read it back."""
        ...

    def upload(self, key: str, path: Path) -> None:
        """`put` of a local file of any size."""
        ...

    def download(self, key: str, path: Path) -> None:
        """Copy an object to a local file, which appears only when it is whole. Raises ObjectNotFound."""
        ...

    def stat(self, key: str) -> ObjectInfo | None:
        """None if there is no such object."""
        ...

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        """Objects whose key begins with `prefix` and is greater than `start_after`, ascending in byte order. An object
        written or deleted while the listing runs may or may not be in it."""
        ...

    def delete(self, key: str) -> None:
        """Idempotent: deleting what isn't there is no error."""
        ...


@dataclass(frozen=True)
class HeldBack:
    """An object in an archive tier. tier: the store's name for it. asked: a readable copy is on its way."""

    key: str
    tier: str
    asked: bool


@runtime_checkable
class Tiered(Protocol):
    """What a store adds that may hold objects back; a folder doesn't."""

    def held_back(self, key: str) -> HeldBack | None:
        """None if the object can be read now, or isn't there."""
        ...

    def thaw(self, key: str, days: int, tier: str) -> None:
        """Ask for a readable copy that stays for `days`; idempotent while it is on its way. Returns at once."""
        ...


class Puts(Protocol):
    """The one verb that a writer of new objects needs."""

    def put(self, key: str, body: bytes) -> None: ...


def check_key(key: str) -> str:
    """The key itself, if it may name an object in every store; else StoreError."""
    parts = key.split("/")
    bad = any(part in ("", ".", "..") or part.startswith(TEMP_PREFIX) for part in parts)
    if bad or "\0" in key or "\\" in key or len(key.encode(errors="surrogatepass")) > MAX_KEY_BYTES:
        raise StoreError(
            f"`{key[:200]}` can't name an object of an archive",
            hint="Keys are relative, at most 1,024 bytes, without `.`, `..` or empty parts: please report this bug.",
        )
    return key


def open_store(settings: ArchiveSettings) -> Store:
    """The store of `archive.root`: `file:///absolute/folder` or `s3://bucket/prefix`. Raises ConfigError for all else.

    Opens no connection and creates nothing: the first write does.
    """
    scheme, found, rest = settings.root.partition("://")
    if found and scheme == "file":
        path = unquote(rest.removeprefix("localhost") if rest.startswith("localhost/") else rest)
        if not path.startswith("/") or "\0" in path:
            raise ConfigError(
                f"archive.root `{settings.root}` doesn't name an absolute folder",
                hint="Write it with three slashes, for example `file:///srv/rowback`.",
            )
        from recovery.archive.filestore import FileStore

        return FileStore(Path(path))
    if found and scheme == "s3":
        bucket, _, prefix = rest.partition("/")
        if not _BUCKET.fullmatch(bucket):  # the value isn't repeated: someone may have put a secret into it
            raise ConfigError(
                "archive.root doesn't name an S3 bucket",
                hint="Write `s3://bucket/prefix`; credentials come from the environment, a profile or a role.",
            )
        from recovery.archive.s3store import S3Store

        return S3Store(bucket, prefix.strip("/"), settings.s3)
    raise ConfigError(
        f"archive.root begins with `{scheme[:20]}`, which is neither `file://` nor `s3://`",
        hint="Set `root` under [archive] to `file:///absolute/folder` or `s3://bucket/prefix`.",
    )


def check_put_if_absent(store: Store, layout_prefix: str) -> None:
    """Prove with two writes of one probe object that the store keeps the first. Raises StoreNotConditional.

    layout_prefix: where the probe goes (`<tenant>/<server>/`); it is deleted again.
    """
    key = f"{layout_prefix}probe/{secrets.token_hex(8)}"
    first, second = b"first " + secrets.token_bytes(8), b"second " + secrets.token_bytes(8)
    try:
        with contextlib.suppress(ObjectExists):  # the name is ours alone: an answer was lost and repeated underneath
            store.put_if_absent(key, first)
        try:
            store.put_if_absent(key, second)
        except ObjectExists:
            kept = store.get(key) == first
        except ObjectNotFound:
            kept = False
        else:
            kept = False
        if not kept:
            raise StoreNotConditional(
                f"the store `{store.url}` doesn't enforce conditional writes",
                hint="Use a store that honours `If-None-Match: *` (Amazon S3, MinIO, Ceph RGW, R2) or a local folder.",
            )
    finally:
        with contextlib.suppress(StoreError):
            store.delete(key)
