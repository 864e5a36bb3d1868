"""The directory of a restore while it is written: DIR.partial, renamed to DIR when all of it is there.

Promises: DIR appears whole and durable or not at all; an output that exists and isn't empty is refused, and so is a
DIR.partial unless the restore goes on in it; two restores never write into one directory (a lock ends with its process).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from recovery.errors import ConfigError, StoreFull
from recovery.output.files import sync


@contextlib.contextmanager
def building(output: Path, *, resume: bool = False) -> Iterator[Path]:
    """DIR.partial to write into. It is removed when the block ends badly, unless it is to be resumed. Raises ConfigError,
    StoreFull."""
    partial = output.with_name(output.name + ".partial")
    _check(output, partial, resume=resume)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir(exist_ok=resume)
    except OSError as error:
        raise _cannot_write(output, error) from error
    try:
        with _locked(partial):
            yield partial
            for path in sorted(partial.rglob("*")):
                sync(path)
            sync(partial)
            partial.rename(output)  # POSIX rename replaces an empty directory
            sync(output.parent)
    except _Locked:
        raise _in_the_way(partial, "another restore is writing it") from None
    except BaseException:
        if not resume:
            shutil.rmtree(partial, ignore_errors=True)
        raise


class _Locked(Exception):
    pass


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise _Locked from error
        yield  # a file system without locks can't say
    finally:
        os.close(handle)


def _check(output: Path, partial: Path, *, resume: bool) -> None:
    if output.is_symlink() or (output.exists() and (not output.is_dir() or any(output.iterdir()))):
        raise ConfigError(
            f"output `{output}` exists and is not an empty directory",
            hint="Choose a new directory: a restore never mixes its files with others.",
        )
    if partial.is_symlink() or (partial.exists() and not (resume and partial.is_dir())):
        raise _in_the_way(partial, "another restore is writing it, or was killed")


def _in_the_way(partial: Path, why: str) -> ConfigError:
    return ConfigError(
        f"`{partial}` is in the way: {why}",
        hint="If no restore is running, go on in it with `--resume` or remove it; or choose another output directory.",
    )


def output_full(message: str) -> StoreFull:
    return StoreFull(message, hint="Free some space, choose another `--output`, or restore fewer tables.")


def _cannot_write(output: Path, error: OSError) -> ConfigError | StoreFull:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return output_full(f"no space left for `{output}`")
    return ConfigError(
        f"output `{output}` can't be created: {error.strerror}", hint="Choose a directory that you may write."
    )
