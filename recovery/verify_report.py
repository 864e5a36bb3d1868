"""The result of a verification, and where findings are gathered."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

MAX_FINDINGS: Final = 1_000
_EXAMPLES: Final = 20


@dataclass(frozen=True)
class Finding:
    """What is wrong with an object, or with the log at that object."""

    object: str
    problem: str


@dataclass(frozen=True)
class Unnamed:
    """Objects that the log doesn't name. examples: the first of their names."""

    objects: int
    size_bytes: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class ArchiveReport:
    """orphans: left by attempts that failed, or just being written. removed: compacted, and not yet swept. row_changes,
    gtids: counted in the objects, None with quick. truncated: there were more findings than are listed."""

    server: str
    archive: str
    quick: bool
    first_version: int
    last_version: int
    indexes: int
    transactions: int
    gtids: int | None
    row_changes: int | None
    snapshots: int
    objects: int
    size_bytes: int
    orphans: Unnamed
    removed: Unnamed
    findings: tuple[Finding, ...]
    truncated: bool

    @property
    def whole(self) -> bool:
        return not self.findings


@dataclass
class Findings:
    """At most MAX_FINDINGS of them."""

    found: list[Finding] = field(default_factory=list)
    truncated: bool = False

    def add(self, name: str, problem: str) -> None:
        if len(self.found) < MAX_FINDINGS:
            self.found.append(Finding(name, problem))
        else:
            self.truncated = True


@dataclass
class Tally:
    """Objects of one kind that a listing turned up."""

    objects: int = 0
    size_bytes: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, key: str, size_bytes: int) -> None:
        self.objects += 1
        self.size_bytes += size_bytes
        if len(self.examples) < _EXAMPLES:
            self.examples.append(key)

    def frozen(self) -> Unnamed:
        return Unnamed(self.objects, self.size_bytes, tuple(self.examples))
