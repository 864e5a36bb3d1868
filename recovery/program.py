"""The statements that make a restored table's definition: CREATE TABLE and the DDL behind it, under its name at the cut.

The target server runs them itself, on an empty table, so that every detail of the definition is the server's. What would
mean something else there is refused: foreign keys to tables that were renamed, and keys whose actions the source didn't log.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from recovery.archive.state import ArchiveState
from recovery.errors import NotComputable
from recovery.lineage import Lineage
from recovery.retarget import NotRewritten, referenced, retargeted
from recovery.scope import label
from recovery.stages import refused

_ACTION: Final = re.compile(r"\bON\s+(DELETE|UPDATE)\s+(CASCADE|SET\s+(NULL|DEFAULT))\b", re.IGNORECASE)


def program(state: ArchiveState, low_seq: int, lineage: Lineage) -> Iterator[str]:
    """The statements that create a table as it was defined at the cut. low_seq: of the snapshot that it comes from. Raises
    DdlInRange and NotComputable."""
    texts = [(lineage.create.statement, lineage.create.default_db, lineage.create.ddl)]
    texts += [(step.ddl.statement, step.ddl.default_db, step.ddl) for step in lineage.program]
    if (
        lineage.baseline is not None
        and len(texts) == 1
        and lineage.name == (lineage.baseline.db, lineage.baseline.table)
    ):
        yield lineage.create.statement
        return
    moved = {name for d in state.ddls if d.seq > low_seq and len(d.tables or ()) > 1 for name in d.tables or ()}
    for statement, default_db, ddl in texts:
        if ddl is not None and _ACTION.search(statement) and not _logs_cascades(state):
            raise refused(lineage.name, ddl, "its foreign key may have changed rows without the server logging it")
        try:
            parents = {p for p in referenced(statement, default_db) if p in moved}
            rewritten = retargeted(statement, lineage.name)
        except NotRewritten as error:
            if ddl is None:
                raise NotComputable(
                    f"table `{label(lineage.name)}` can't be created under its name at the target: {error}",
                    hint="Take a new snapshot; targets at or after it can be restored.",
                ) from error
            raise refused(lineage.name, ddl, f"it can't be written for its name at the target ({error})") from error
        if parents:
            raise NotComputable(
                f"table `{label(lineage.name)}` has a foreign key to `{label(min(parents))}`, which was renamed",
                hint="Take a new snapshot; targets at or after it can be restored. Or leave the table out with `--exclude`.",
            )
        if rewritten is not None:
            yield rewritten


def _logs_cascades(state: ArchiveState) -> bool:
    """Whether the server writes rows that foreign keys change into its binlog: MySQL since 9.6, unless a snapshot says that
    it is told not to."""
    identity = state.identity
    if identity is None or identity.flavor != "mysql" or any(s.cascades for s in state.snapshots):
        return False
    version = [int(part) for part in re.findall(r"\d+", identity.server_version)[:2]]
    return version >= [9, 6]
