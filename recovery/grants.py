"""What an account may do, from SHOW GRANTS: privileges on everything and per database.

Grants on single tables, columns and routines are not looked at: whoever needs to know tries the statement.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from recovery import source

_ALL = "ALL PRIVILEGES"


@dataclass(frozen=True)
class Grants:
    """everywhere: privileges on *.*, active roles included. databases: by the pattern of the grant, as it stands there."""

    everywhere: frozenset[str] = frozenset()
    databases: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def held(self, privilege: str, db: str | None = None) -> bool:
        """Whether the account has the privilege on a database; on all of them without one."""
        if self.everywhere & {privilege, _ALL}:
            return True
        return db is not None and any(
            found & {privilege, _ALL} and _like(pattern, db) for pattern, found in self.databases.items()
        )


def read_grants(connection: source.Connection) -> Grants:
    return Grants(*parse_grants([str(row[0]) for row in source.fetch(connection, "SHOW GRANTS")]))


def parse_grants(lines: Sequence[str]) -> tuple[frozenset[str], dict[str, frozenset[str]]]:
    """Privileges on *.* and per database from SHOW GRANTS. MySQL folds the roles in force into the account's own lines,
    MariaDB prints the active role's lines too."""
    everywhere: set[str] = set()
    databases: dict[str, set[str]] = {}
    for line in lines:
        match = re.match(r"GRANT (.+?) ON (?:TABLE )?(\*|`(?:[^`]|``)+`)\.(\*) TO ", line)
        if not match:
            continue
        privileges = {part.strip().upper() for part in match.group(1).split(",")}
        if match.group(2) == "*":
            everywhere |= privileges
        else:
            databases.setdefault(match.group(2)[1:-1].replace("``", "`"), set()).update(privileges)
    return frozenset(everywhere), {name: frozenset(found) for name, found in databases.items()}


def _like(pattern: str, db: str) -> bool:
    """The database part of a GRANT is a LIKE pattern with `\\` as its escape (manual, "GRANT Statement")."""
    parts = re.findall(r"\\.|.", pattern, re.DOTALL)
    wild = {"%": ".*", "_": "."}
    regex = "".join(wild.get(part) or re.escape(part[-1]) for part in parts)
    return re.fullmatch(regex, db, re.DOTALL) is not None


def account_sql(account: str) -> str:
    """`user@host`, as CURRENT_USER() gives it, for a GRANT statement."""
    user, _, host = account.rpartition("@")
    return "{}@{}".format(*("'" + part.replace("\\", "\\\\").replace("'", "''") + "'" for part in (user, host)))
