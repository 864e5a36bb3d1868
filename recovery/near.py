"""Names near to one that fits nothing, for a hint: tables, and whole databases as `db.*`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MOST = 3


def near_names(text: str, held: Iterable[tuple[str, str]]) -> list[str]:
    """text: a pattern `db.table`; its wildcards count as nothing, but `db.*` is compared with databases. Best first."""
    names = sorted(held)
    if text.endswith(".*"):
        return difflib.get_close_matches(text, sorted({f"{db}.*" for db, _ in names}), n=MOST, cutoff=0.5)
    bare = text.translate({ord(c): None for c in "*?`"})
    labels = [f"{db}.{table}" for db, table in names]
    found = difflib.get_close_matches(bare, labels, n=MOST, cutoff=0.5)
    # The same table in another database, or the same name in another case.
    table = bare.rpartition(".")[2].casefold()
    found += [label for label, (_, name) in zip(labels, names, strict=True) if name.casefold() == table]
    return list(dict.fromkeys(found))[:MOST]
