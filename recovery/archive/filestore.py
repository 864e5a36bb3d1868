"""An archive in a folder: every durable write goes through one function here.

Promises: an object appears under its name only whole and on disk (temporary file in the same folder, fsync, rename or
link, fsync of the folder); `put_if_absent` is link(2), which fails if the name exists (open(2) with O_EXCL couldn't be
atomic with the content), or renameat2(2) with RENAME_NOREPLACE on file systems without hard links; where neither works
the store refuses. Symbolic links below the root are never followed. Leftovers of a killed process begin with
`.rb-tmp-` and are never listed.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, NoReturn

from recovery.archive.store import TEMP_PREFIX, ObjectInfo, check_key
from recovery.errors import (
    ObjectExists,
    ObjectNotFound,
    RowbackError,
    StoreError,
    StoreFull,
    StoreNotConditional,
    StoreUnavailable,
)

_FILE_MODE = 0o640
_FOLDER_MODE = 0o750
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_MISSING = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR})
_PASSING = frozenset({errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EBUSY, errno.ENFILE, errno.EMFILE})
# link(2): EPERM is "the file system doesn't support hard links"; FUSE and network file systems answer the other two.
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
_AT_FDCWD = -100  # fcntl.h
_RENAME_NOREPLACE = 1  # linux/fs.h
_CHUNK_BYTES = 1024 * 1024


class FileStore:
    """root: an absolute folder; created by the first write if it isn't there."""

    def __init__(self, root: Path) -> None:
        self.root = os.path.realpath(root)
        self.url = Path(self.root).as_uri()

    def get(self, key: str) -> bytes:
        with self._errors("read", key):
            return Path(self._path(key)).read_bytes()

    def local_path(self, key: str) -> Path | None:
        """The object's file, for readers of parts of it, who mustn't change it; None if there is no such object."""
        with self._errors("read", key):
            path = Path(self._path(key))
            return path if path.is_file() else None

    def put(self, key: str, body: bytes) -> None:
        with self._errors("write", key):
            self._write_durably(key, lambda out: _write_all(out, body), os.replace)

    def put_if_absent(self, key: str, body: bytes) -> None:
        with self._errors("write", key):
            if os.path.lexists(self._path(key)):  # saves a losing writer the copy; the link below is what decides
                raise self._exists(key)
            self._write_durably(key, lambda out: _write_all(out, body), _publish_new)

    def upload(self, key: str, path: Path) -> None:
        try:
            source = path.open("rb")
        except OSError as error:
            raise _local_error("read", path, error) from error
        with source, self._errors("write", key):
            self._write_durably(key, lambda out: shutil.copyfileobj(source, out, _CHUNK_BYTES), os.replace)

    def download(self, key: str, path: Path) -> None:
        with self._errors("read", key):
            source = open(self._path(key), "rb")  # noqa: SIM115 - closed by the with below
        partial = path.with_name(f"{TEMP_PREFIX}{secrets.token_hex(8)}")
        with source:
            try:
                with partial.open("xb") as out:
                    shutil.copyfileobj(source, out, _CHUNK_BYTES)
                os.replace(partial, path)
            except OSError as error:
                raise _local_error("write", path, error) from error
            finally:
                with contextlib.suppress(OSError):
                    partial.unlink(missing_ok=True)

    def stat(self, key: str) -> ObjectInfo | None:
        try:
            with self._errors("look up", key):
                found = os.stat(self._path(key), follow_symlinks=False)
                if not os.path.isfile(self._path(key)):
                    return None
        except ObjectNotFound:
            return None
        return _info(key, found)

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        folder = prefix.rpartition("/")[0]
        with self._errors("list", prefix):
            if folder:
                self._path(folder)
            yield from self._walk(f"{folder}/" if folder else "", prefix, start_after)

    def delete(self, key: str) -> None:
        path = self._path(key)
        try:
            with self._errors("delete", key):
                os.unlink(path)
                _sync_folder(os.path.dirname(path))
        except ObjectNotFound:
            return
        parent = os.path.dirname(path)
        with contextlib.suppress(OSError):  # not empty, or a writer was faster: both are fine
            while parent != self.root:
                os.rmdir(parent)
                parent = os.path.dirname(parent)

    def _walk(self, folder: str, prefix: str, start_after: str) -> Iterator[ObjectInfo]:
        """Objects below `folder` ("" or ending in "/"). A folder sorts as its name and "/", as its keys do."""
        found: list[tuple[bytes, str, os.DirEntry[str]]] = []
        try:
            with os.scandir(os.path.join(self.root, folder)) as entries:
                for entry in entries:
                    if entry.name.startswith(TEMP_PREFIX) or entry.is_symlink():
                        continue
                    key = f"{folder}{entry.name}" + ("/" if entry.is_dir(follow_symlinks=False) else "")
                    found.append((os.fsencode(key), key, entry))
        except (FileNotFoundError, NotADirectoryError):
            return
        wanted, after = os.fsencode(prefix), os.fsencode(start_after)
        for raw, key, entry in sorted(found, key=lambda item: item[0]):
            if key.endswith("/"):
                if (raw.startswith(wanted) or wanted.startswith(raw)) and (raw > after or after.startswith(raw)):
                    yield from self._walk(key, prefix, start_after)
            elif raw.startswith(wanted) and raw > after:
                with contextlib.suppress(FileNotFoundError):  # deleted while the listing runs
                    yield _info(key, entry.stat(follow_symlinks=False))

    def _path(self, key: str) -> str:
        """Where a key lies. Raises StoreError if that is outside the root or behind a symbolic link."""
        path = os.path.join(self.root, check_key(key))
        if os.path.realpath(path) != path:
            raise StoreError(
                f"`{key}` in `{self.url}` leads through a symbolic link",
                hint="Objects lie below the archive's root itself: replace the link by a real folder or a mount.",
            )
        return path

    def _write_durably(self, key: str, fill: Callable[[BinaryIO], None], publish: Callable[[str, str], None]) -> None:
        """The one way in which bytes become an object. Errors before `publish` leave nothing behind; an error of the
        last fsync is StoreUnavailable, since the object is visible but perhaps not yet on disk."""
        path = self._path(key)
        folder = os.path.dirname(path)
        temp = os.path.join(folder, f"{TEMP_PREFIX}{secrets.token_hex(8)}")
        try:
            with open(self._create(temp, folder), "wb") as out:
                fill(out)
                out.flush()
                os.fsync(out.fileno())
            try:
                publish(temp, path)
            except FileExistsError as error:
                raise self._exists(key) from error
        finally:
            with contextlib.suppress(OSError):
                os.unlink(temp)
        try:
            _sync_folder(folder)
        except OSError as error:
            raise StoreUnavailable(
                f"`{key}` in `{self.url}` is written, but may not be on disk yet: {_reason(error)}",
                hint="Check the disk and the system log; reading it back tells whether the object is there.",
            ) from error

    def _create(self, temp: str, folder: str) -> int:
        """Open a new file, making its folders. `delete` may remove an empty folder in between: then make it again."""
        for _ in range(10):
            with contextlib.suppress(FileNotFoundError):
                _make_folders(folder)
                return os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE)
        raise OSError(errno.EAGAIN, "the folder is being removed again and again")

    def _exists(self, key: str) -> ObjectExists:
        return ObjectExists(
            f"there is an object `{key}` in `{self.url}` already",
            hint="Another writer was faster: read it, and build on it.",
        )

    @contextlib.contextmanager
    def _errors(self, verb: str, key: str) -> Iterator[None]:
        try:
            yield
        except RowbackError:
            raise
        except OSError as error:
            self._raise(verb, key, error)

    def _raise(self, verb: str, key: str, error: OSError) -> NoReturn:
        what = f"can't {verb} `{key}` in `{self.url}`: {_reason(error)}"
        if error.errno in _MISSING and verb != "write":
            raise ObjectNotFound(
                f"there is no object `{key}` in `{self.url}`", hint="Check the archive's root, tenant and server name."
            ) from error
        if error.errno in _FULL:
            raise StoreFull(
                what, hint="Free some space (or raise the quota) and start again; nothing was lost."
            ) from error
        if error.errno in _DENIED:
            raise StoreError(
                what, hint=f"Give the account that runs rowback (uid {os.geteuid()}) access to `{self.root}`."
            ) from error
        if error.errno in _PASSING:
            raise StoreUnavailable(
                what, hint="Check the disk, the mount and the system log, then try again."
            ) from error
        raise StoreError(what, hint=f"Check the file system that holds `{self.root}`.") from error


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _local_error(verb: str, path: Path, error: OSError) -> StoreError:
    """An error of the local side of an upload or a download."""
    kind = StoreFull if error.errno in _FULL else StoreError
    return kind(
        f"can't {verb} the local file `{path}`: {_reason(error)}", hint="Check the folder's free space and permissions."
    )


def _info(key: str, found: os.stat_result) -> ObjectInfo:
    return ObjectInfo(key, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))


def _write_all(out: BinaryIO, body: bytes) -> None:
    out.write(body)


def _sync_folder(folder: str) -> None:
    """fsync(2): a new directory entry is durable only once the directory itself has been synced."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _make_folders(folder: str) -> None:
    """mkdir -p, syncing the parent of each folder that is new."""
    if os.path.isdir(folder):
        return
    parent = os.path.dirname(folder)
    if parent != folder:
        _make_folders(parent)
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, _FOLDER_MODE)
    _sync_folder(parent)


def _publish_new(temp: str, path: str) -> None:
    """Give a finished file its name unless the name is taken (FileExistsError)."""
    try:
        os.link(temp, path, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _rename_noreplace(temp, path)


def _rename_noreplace(temp: str, path: str) -> None:
    """renameat2(2) with RENAME_NOREPLACE: Linux 3.15 and glibc 2.28, on most file systems that lack hard links."""
    number = errno.ENOSYS
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is not None:
        if call(_AT_FDCWD, os.fsencode(temp), _AT_FDCWD, os.fsencode(path), _RENAME_NOREPLACE) == 0:
            return
        number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM):
        raise StoreNotConditional(
            f"the file system of `{path}` can neither link a file nor rename it without replacing",
            hint="Put the archive on a local file system (ext4, XFS, ZFS, Btrfs) or on S3.",
        )
    raise OSError(number, os.strerror(number), path)
