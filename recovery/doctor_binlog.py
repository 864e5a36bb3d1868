"""Doctor's checks of what would leave changes out of the binlog, or lose it, without capture ever seeing a trace.

What capture itself would stop at stands in recovery/doctor_server.py. Nothing here writes to the server.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from recovery import source
from recovery.checks import Check, advice, fail, ok
from recovery.errors import RowbackError

if TYPE_CHECKING:
    from recovery.doctor_server import Facts

_NAMED: Final = 5
# Engines whose changes aren't in the binlog as rows. MEMORY: emptied by a restart, which logs a statement at best
# (sql/sql_base.cc, open_table_entry_fini); BLACKHOLE: only inserts are logged as rows (storage/blackhole/ha_blackhole.h);
# FEDERATED: the rows are another server's; PERFORMANCE_SCHEMA and the like never come up here.
_ENGINES: Final = {
    "MEMORY": "a restart of the server empties them, with no row events",
    "BLACKHOLE": "they keep no rows, and only inserts reach the binlog",
    "FEDERATED": "their rows are another server's and change there without a trace here",
}
_CACHE_BYTES: Final = 1 << 30


def is_replica(connection: source.Connection, info: source.ServerInfo) -> bool:
    """Whether it takes changes from another server; False where the account may not know."""
    new = info.flavor == "mysql" and info.version_tuple >= (8, 0, 22)
    try:
        return bool(source.fetch(connection, "SHOW REPLICA STATUS" if new else "SHOW SLAVE STATUS"))
    except RowbackError:
        return False


def engines(connection: source.Connection) -> Mapping[str, tuple[str, ...]]:
    """`db.table` names of the engines that need a word, by engine."""
    wanted = ", ".join(f"'{name}'" for name in _ENGINES)
    found: dict[str, list[str]] = {}
    for engine, db, table in source.fetch(
        connection, f"SELECT ENGINE, TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE ENGINE IN ({wanted})"
    ):
        if str(db).lower() not in source.SYSTEM_SCHEMAS:
            found.setdefault(str(engine).upper(), []).append(f"{db}.{table}")
    return {engine: tuple(sorted(names)) for engine, names in found.items()}


def unlogging(connection: source.Connection) -> tuple[str, ...]:
    """Routines and events that the account can read and that name sql_log_bin."""
    found = []
    for kind, view, prefix in (("routine", "ROUTINES", "ROUTINE"), ("event", "EVENTS", "EVENT")):
        rows = source.fetch(
            connection,
            f"SELECT {prefix}_SCHEMA, {prefix}_NAME FROM information_schema.{view} "
            f"WHERE INSTR(LOWER({prefix}_DEFINITION), 'sql_log_bin') > 0",
        )
        found += [f"{kind} `{db}.{name}`" for db, name in rows if str(db).lower() not in source.SYSTEM_SCHEMAS]
    return tuple(sorted(found))


def checks(facts: Facts) -> Iterator[Check]:
    yield from _error_action(facts)
    yield _durability(facts)
    yield from _replica(facts)
    yield _sessions(facts)
    yield _engines(facts)
    yield from _sizes(facts)


def failover_check(facts: Facts) -> Check:
    """For a server whose section says `failover = true`."""
    name = "failover"
    if facts.flavor != "mysql":
        why = "MariaDB's GTID positions don't show a lost transaction: another server is always refused"
        return fail(name, "can't be followed on MariaDB", why, "remove `failover` from the server's section")
    if facts.variables.get("gtid_mode", "OFF").upper() != "ON":
        why = "another server is recognised as one of the same history by GTIDs alone"
        return fail(name, "needs GTIDs", why, "switch gtid_mode on as above")
    return ok(name, "another server of the same history is followed by GTIDs")


def _error_action(facts: Facts) -> Iterator[Check]:
    value = facts.variables.get("binlog_error_action", "").upper()
    if not value:
        return  # MariaDB has none: it stops
    if value == "ABORT_SERVER":
        yield ok("binlog_error_action", value)
        return
    why = (
        "when the binlog can't be written (a full disk) the server goes on without it, and the changes are in no backup"
    )
    fix = "SET PERSIST binlog_error_action = 'ABORT_SERVER';"
    yield fail("binlog_error_action", f"is {value}, must be ABORT_SERVER", why, fix)


def _durability(facts: Facts) -> Check:
    name = "durability"
    wanted = ("sync_binlog", "innodb_flush_log_at_trx_commit")
    weak = [f"{n} = {facts.variables[n]}" for n in wanted if facts.variables.get(n, "1") != "1"]
    if not weak:
        return ok(name, "binlog and redo log are synced at each commit")
    why = (
        "after a power cut the server may have forgotten transactions that are captured already, and capture then "
        "refuses it as diverged"
    )
    verb = "SET PERSIST" if facts.flavor == "mysql" else "SET GLOBAL (and in my.cnf)"
    fix = f"{verb} sync_binlog = 1; {verb} innodb_flush_log_at_trx_commit = 1;"
    return advice(name, " and ".join(weak), why, fix)


def _replica(facts: Facts) -> Iterator[Check]:
    if not facts.replica:
        return
    name = "log_replica_updates" if "log_replica_updates" in facts.variables else "log_slave_updates"
    if facts.variables.get(name, "OFF").upper() in ("ON", "1"):
        yield ok(name, "on: what it takes from its source is in its binlog")
        return
    why = (
        "this server is a replica and leaves what it takes from its source out of its own binlog: that would be missing"
    )
    yield fail(name, "is OFF, must be ON", why, f"in my.cnf below [mysqld]: {name} = ON, then restart the server")


def _sessions(facts: Facts) -> Check:
    name = "sql_log_bin"
    why = "what a session changes with the binlog switched off is in no backup, and nothing shows that it happened"
    if "sql_log_bin" in facts.variables.get("init_connect", "").lower():
        return fail(name, "init_connect switches the binlog off", why, "take sql_log_bin out of init_connect")
    if facts.unlogging:
        named = ", ".join(facts.unlogging[:_NAMED])
        return advice(name, f"named in the {named}", why, "let only migrations that you back up yourself set it to 0")
    return ok(name, "neither init_connect nor a routine or event that this account can read switches the binlog off")


def _engines(facts: Facts) -> Check:
    name = "storage engines"
    if not facts.engines:
        return ok(name, "none whose changes the binlog leaves out")
    parts = [f"{engine}: {', '.join(tables[:_NAMED])}" for engine, tables in sorted(facts.engines.items())]
    whys = "; ".join(f"{engine}: {_ENGINES[engine]}" for engine in sorted(facts.engines))
    return advice(name, "; ".join(parts), whys, "ALTER TABLE ... ENGINE = InnoDB, or leave them out with `exclude`")


def _sizes(facts: Facts) -> Iterator[Check]:
    limit = int(facts.variables.get("max_binlog_cache_size", "0") or 0)
    if 0 < limit < _CACHE_BYTES:
        why = "a larger transaction fails on the server; one on non-transactional tables may be left out of the binlog"
        fix = "SET GLOBAL max_binlog_cache_size = 18446744073709547520;"
        yield advice("max_binlog_cache_size", f"is {limit} bytes", why, fix)
    total = int(facts.variables.get("max_binlog_total_size", "0") or 0)
    if total:
        why = "binlogs are purged by size, captured or not: a burst shortens the time that capture may be away"
        fix = "set max_binlog_total_size = 0 and let binlog_expire_logs_seconds decide"
        yield advice("max_binlog_total_size", f"is {total} bytes", why, fix)
