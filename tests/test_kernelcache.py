"""Where compiled kernels are kept."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from dataflow.kernels import warm
from recovery import kernelcache

WHERE = "import dataflow.kernels, numba; print(numba.config.CACHE_DIR)"


def where(env: dict[str, str], cwd: Path) -> Path:
    done = subprocess.run(
        [sys.executable, "-c", WHERE], capture_output=True, text=True, check=True, cwd=cwd, env=os.environ | env
    )
    return Path(done.stdout.strip())


def printed(code: str, **env: str) -> list[str]:
    """The words that a new interpreter with our packages prints."""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent), **env}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    return done.stdout.split()


def test_the_folder_is_named_by_the_sources(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parent.parent
    copy = tmp_path / "copy"
    for package in ("dataflow/kernels", "recovery"):
        for source in (root / package).glob("*.py"):
            target = copy / package / source.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    for name in ("__init__.py", "jsonb.py"):
        (copy / "dataflow" / name).write_bytes((root / "dataflow" / name).read_bytes())
    env = {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(copy)}
    first = where(env, tmp_path)
    assert first.parent == tmp_path / "cache"
    assert where(env, tmp_path) == first
    found = {first}
    for name in ("dataflow/kernels/memory.py", "dataflow/jsonb.py", "recovery/charset_kernels.py"):
        with (copy / name).open("a") as file:
            file.write("# changed\n")
        found.add(where(env, tmp_path))
    assert len(found) == 4


def test_a_cache_that_cannot_be_written_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    root = Path(__file__).resolve().parent.parent
    env = {"NUMBA_CACHE_DIR": str(tmp_path / "file" / "below"), "PYTHONPATH": str(root), "TMPDIR": str(tmp_path)}
    assert where(env, tmp_path).parent == tmp_path


def test_kernels_are_loaded_when_they_are_called_and_without_the_compiler(tmp_path: Path) -> None:
    code = (
        "import sys, numpy; from dataflow.kernels.fixed import years; from dataflow.kernels.strings import is_ascii\n"
        "assert not is_ascii.overloads\n"
        "assert is_ascii(numpy.zeros(9, numpy.uint8)) and not is_ascii(numpy.full(9, 200, numpy.uint8))\n"
        "assert not years.overloads\n"
        "print('numba.np.linalg' in sys.modules)"
    )
    assert [printed(code, NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(2)] == [["True"], ["False"]]


def test_a_call_with_an_array_of_another_type_is_an_error_the_first_time_too() -> None:
    code = (
        "import numpy; from dataflow.kernels.strings import is_ascii\n"
        "for each in (numpy.zeros(9, numpy.int8), numpy.zeros((3, 3), numpy.uint8), 5):\n"
        "    for _ in range(2):\n"
        "        try: is_ascii(each)\n"
        "        except TypeError: print('TypeError')\n"
    )
    assert printed(code) == ["TypeError"] * 6


def test_a_first_call_may_be_overtaken_by_another_thread_s() -> None:
    """The other thread goes on while Numba types the arguments, and has the kernel when it looks for the signature."""
    code = (
        "import numpy; from dataflow.kernels.crc32 import crc32; from recovery.kernelcache import Kernel\n"
        "known = Kernel.typeof_pyval\n"
        "def overtaken(self, value):\n"
        "    overtaken.times += 1\n"
        "    self.compile()\n"
        "    return known(self, value)\n"
        "overtaken.times = 0\n"
        "Kernel.typeof_pyval = overtaken\n"
        "print(crc32(numpy.array([*b'123456789'], numpy.uint8), 0, 9), overtaken.times > 0)\n"
    )
    assert printed(code) == [str(0xCBF43926), "True"]


def test_a_capture_compiles_ahead_only_what_no_cache_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[int] = []
    monkeypatch.setattr(warm, "_mark", lambda: tmp_path / "complete")
    monkeypatch.setattr(kernelcache, "defined", [SimpleNamespace(compile=lambda: compiled.append(1))])
    for _ in range(2):
        warm.ahead()
    assert compiled == [1]
