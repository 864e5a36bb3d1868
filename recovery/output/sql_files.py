"""SQL output: the tables as they were at their snapshots, and a script of all that happened up to the cut.

    <db>.<table>-schema.sql, <db>.<table>.00000.sql     the table at the snapshot, as in a mydumper directory
    changes.00000.sql ...                               every change since, transaction by transaction
    (recovery/output/forward.py) load.mysql                                          all of it for the plain client, and
    check.mysql at the end

There is no `metadata` file: myloader, which would load the snapshot and leave the changes out, refuses the directory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from recovery.archive.store import Store
from recovery.dump import DumpWriter, check_statement, head
from recovery.output.files import FileRecord, Sink
from recovery.output.forward import blocks, events
from recovery.output.story import Story
from recovery.scope import TableName
from recovery.statement_settings import as_statements


@dataclass
class SqlWriter(DumpWriter):
    """As DumpWriter; `changes` comes behind the tables, `script` names its files where a run before wrote them."""

    for_myloader: bool = False
    checked: bool = True
    script: list[FileRecord] = field(default_factory=list)

    def changes(
        self, store: Store, stories: Mapping[TableName, Story], heard: Callable[[int, int], None]
    ) -> list[FileRecord]:
        """Write the forward script. heard: told the number of changes and bytes so far. Raises NotComputable,
        ArchiveDamaged and OSError."""
        for story in stories.values():
            for _, text in story.statements:
                for body in as_statements(text):
                    check_statement(body, story.table.label)
        self.script = list(self._cut(blocks(events(store, stories), self.flavor), heard))
        return self.script

    def _cut(self, found: Iterable[tuple[str, int]], heard: Callable[[int, int], None]) -> Iterator[FileRecord]:
        sink: Sink | None = None
        number = changes = size_bytes = 0
        try:
            for text, count in found:
                if sink is None:
                    sink = Sink(self.directory, f"changes.{number:05d}.sql{self.options.suffix}", self.options.codec)
                    sink.put(head(self.flavor).encode())
                    number += 1
                raw = text.encode()
                sink.put(raw)
                changes, size_bytes = changes + count, size_bytes + len(raw)
                heard(changes, size_bytes)
                if sink.put_bytes >= self.options.file_bytes:
                    yield sink.end()
                    sink = None
            if sink is not None:
                yield sink.end()
        finally:
            if sink is not None:
                sink.close()

    def _changes(self) -> Iterator[str]:
        return (file.name.removesuffix(self.options.suffix) for file in self.script)
