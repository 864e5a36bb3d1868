"""When kernels are compiled, and where Numba keeps them: a folder per state of their sources.

Numba looks at a kernel's own source file only when it decides whether its cached code is still good; a constant or a
helper that comes from another file is frozen into it. A folder named by all kernels' sources can't hold stale code.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
import platformdirs
from numba import types
from numba.core.caching import FunctionCache
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import CPUDispatcher
from numba.core.runtime import rtsys

_call = CPUDispatcher.__call__
_PACKAGES = Path(__file__).resolve().parent.parent


class _Cache(FunctionCache):  # type: ignore[misc]
    def load_overload(self, signature: Any, context: Any) -> Any:
        """Without `context.refresh()`: it imports what compiling needs (0.3 s), which compiling does itself."""
        rtsys.initialize(context)
        return self._load_overload(signature, context)


class Kernel(CPUDispatcher):  # type: ignore[misc]
    """Has one signature, and is compiled, or loaded from the cache, when Python calls it first or a kernel that calls it
    is compiled. Numba's `njit` does that while a module with signatures is imported: 10 ms for each kernel, of which most
    processes need a few (one that others call is part of their code)."""

    signature: Any

    def __call__(self, *arguments: Any) -> Any:
        # Numba asks first whether it may compile, then types the arguments, which may let another thread go on, and then
        # looks for the signature: with the first answer, though the other thread has the kernel by then. So it is loaded
        # before Numba asks.
        if self._can_compile:
            self.compile()
        return _call(self, *arguments)

    def compile(self, asked: Any = None) -> Any:
        """The compiled function, for the declared types. asked: those of a call, of which numbers are converted, as `njit`
        does. Raises TypeError for arrays of other types."""
        with global_compiler_lock:
            if self._can_compile:
                super().compile(self.signature)
                self.disable_compile()
        declared = self.signature.args
        for given, wanted in zip(declared if asked is None else asked, declared, strict=True):
            arrays = isinstance(given, types.Array) or isinstance(wanted, types.Array)
            if arrays and not given.can_convert_to(self.typingctx, wanted) and given != wanted:
                raise TypeError(f"kernel {self.__name__} takes {wanted}, not {given}")
        return self.overloads[declared].entry_point


defined: list[Kernel] = []
"""All kernels of the modules that are imported."""


def kernel(signature: Any, *, cache: bool, **options: Any) -> Callable[[Callable[..., Any]], Kernel]:
    """As numba.njit with one signature, but for the moment: see Kernel."""

    def define(function: Callable[..., Any]) -> Kernel:
        made = Kernel(function, targetoptions={"nopython": True, **options})
        made.signature = signature
        if cache:
            made._cache = _Cache(function)
        defined.append(made)
        return made

    return define


@cache
def settle() -> Path:
    """Called before a module defines kernels: points Numba at the folder, once per process, and gives it.

    Below NUMBA_CACHE_DIR if that is set, else in the user's cache folder; if neither can be written, a folder of this
    process alone, so that it compiles anew (10 to 30 s) rather than fails.
    """
    digest = hashlib.sha256()
    for path in (
        *sorted((_PACKAGES / "dataflow" / "kernels").glob("*.py")),
        _PACKAGES / "dataflow" / "jsonb.py",  # limits that a kernel keeps to
        _PACKAGES / "recovery" / "charset_kernels.py",
    ):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    own = os.environ.get("NUMBA_CACHE_DIR")
    base = Path(own) if own else platformdirs.user_cache_path("rowback", appauthor=False) / "numba"
    folder = base / digest.hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError:
        folder = Path(tempfile.mkdtemp(prefix="rowback-numba-"))
    numba.config.CACHE_DIR = str(folder)
    return folder
