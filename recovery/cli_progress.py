"""Progress of long operations, on stderr: bars on a terminal, a line for each phase elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from recovery.cli_options import size, stderr
from recovery.output.report import RestoreProgress
from recovery.snapshot.request import Progress

_PHASES = {
    "plan": "reading definitions",
    "lock": "waiting for the lock",
    "dump": "dumping",
    "read": "reading tables",
    "upload": "uploading the dump",
    "baseline": "writing baselines",
    "commit": "committing",
}


@contextmanager
def snapshot_progress() -> Iterator[Callable[[Progress], None]]:
    """A function that shows where a snapshot stands; it may be called from any thread and at any rate."""
    console = stderr()
    if console.is_terminal:
        columns = (
            TextColumn("{task.description:<22}"),
            BarColumn(),
            TextColumn("{task.fields[detail]}"),
            TimeElapsedColumn(),
        )
        with Bars(*columns, console=console) as bars:
            yield _Bars(bars).show
        return
    seen: set[str] = set()

    def line(progress: Progress) -> None:
        if progress.phase not in seen:
            seen.add(progress.phase)
            console.print(_PHASES.get(progress.phase, progress.phase), markup=False)

    yield line


@contextmanager
def restore_progress() -> Iterator[Callable[[RestoreProgress], None]]:
    """A function that shows where a restore is: on a terminal a bar over the tables, with the rows and bytes of the one that
    is written. Elsewhere nothing but notes."""
    console = stderr()
    if not console.is_terminal:
        yield lambda progress: console.print(progress.note, markup=False) if progress.note else None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[detail]}"))
    with Bars(*columns, TimeElapsedColumn(), console=console) as bars:
        task = bars.add_task("tables", total=None, detail="")
        totals = [0, 0]

        def show(progress: RestoreProgress) -> None:
            if progress.note:
                console.print(progress.note, markup=False)
                return
            rows, size_bytes = totals[0] + progress.rows, totals[1] + progress.size_bytes
            if progress.done:
                totals[:] = rows, size_bytes
            now = (
                ""
                if progress.done
                else f"  {_printable(progress.table)}: {progress.rows} rows, {size(progress.size_bytes)}"
            )
            detail = f"{rows} rows, {size(size_bytes)}{now}"
            bars.update(task, completed=progress.tables_done, total=progress.tables_total, detail=detail)

        yield show


def _printable(name: str) -> str:
    """A name without what a terminal or rich could take for a command."""
    return "".join(c if c.isprintable() and c != "[" else "?" for c in name)


_CHECKS = {
    "log": "the log",
    "objects": "names and sizes",
    "transactions": "transactions",
    "changes": "changes",
    "baselines": "baselines",
    "dumps": "dump directories",
}


@contextmanager
def verify_progress() -> Iterator[Callable[[str, int, int], None]]:
    """A function that shows how far a verification is: (phase, done, total)."""
    console = stderr()
    if not console.is_terminal:
        seen: set[str] = set()

        def line(phase: str, done: int, total: int) -> None:
            if phase not in seen:
                seen.add(phase)
                console.print(f"checking {_CHECKS.get(phase, phase)}", markup=False)

        yield line
        return
    columns = (TextColumn("{task.description:<22}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, console=console) as bars:
        tasks: dict[str, TaskID] = {}

        def show(phase: str, done: int, total: int) -> None:
            if phase not in tasks:
                tasks[phase] = bars.add_task(_CHECKS.get(phase, phase), total=None)
            bars.update(tasks[phase], completed=done, total=max(total, done) or None)

        yield show


class _Bars:
    """One bar for each phase, by tables or bytes, whichever it counts."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def show(self, progress: Progress) -> None:
        for phase, task in self._tasks.items():
            if phase != progress.phase and not self._bars.tasks[task].finished:
                self._bars.update(task, total=1, completed=1)
        if progress.phase not in self._tasks:
            name = _PHASES.get(progress.phase, progress.phase)
            self._tasks[progress.phase] = self._bars.add_task(name, total=None, detail="")
        done, total = progress.bytes_done, progress.bytes_total
        if not total:
            done, total = progress.tables_done, progress.tables_total
        self._bars.update(
            self._tasks[progress.phase], completed=done, total=max(total, done) or None, detail=_detail(progress)
        )


def _detail(progress: Progress) -> str:
    tables = f"{progress.tables_done}/{progress.tables_total} tables" if progress.tables_total else ""
    read = size(progress.bytes_done) if progress.bytes_done else ""
    return "  ".join(part for part in (tables, read) if part)
