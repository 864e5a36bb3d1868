"""What doctor asks the source server, and what it makes of the answers.

`read_facts` asks; `checks` is a pure function of the answers. Both know MySQL and MariaDB. Each check not ok says
why it matters and gives the exact statement that mends it. Nothing here writes to the server.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from recovery import doctor_binlog, source
from recovery.checks import Check, advice, fail, ok
from recovery.errors import PrivilegeMissing, SourceError, UnsupportedColumn
from recovery.grants import account_sql, read_grants
from recovery.quoting import quote
from recovery.schema import Table, check_supported
from recovery.scratch_server import DECISIVE
from recovery.snapshot.plan import unlogged_cascades
from recovery.source_tables import read_tables

_VARIABLES = (
    "log_bin",
    "binlog_format",
    "binlog_row_image",
    "binlog_row_metadata",
    "gtid_mode",
    "binlog_expire_logs_seconds",
    "expire_logs_days",
    "server_id",
    "binlog_checksum",
    "innodb_native_foreign_keys",
    "binlog_error_action",
    "sync_binlog",
    "innodb_flush_log_at_trx_commit",
    "log_replica_updates",
    "log_slave_updates",
    "max_binlog_cache_size",
    "max_binlog_total_size",
    "init_connect",
    "lower_case_table_names",
    *DECISIVE,
)
_NAMED = 5  # tables named in one line of advice
CLOCK_ADVICE_S = 2.0
EXPIRY_ADVICE_S = 86_400


@dataclass(frozen=True)
class Facts:
    """The server's answers. grants: privileges on *.*, active roles included; database_grants: per database.
    cascade_children: tables whose rows a foreign key may change without row events in the binlog. replica: it takes changes
    from another server. engines: tables by storage engine. unlogging: routines and events whose text switches the binlog
    off."""

    flavor: str
    version: str
    account: str
    variables: Mapping[str, str]
    grants: frozenset[str]
    database_grants: Mapping[str, frozenset[str]]
    binlog_filters: tuple[str, str] | None  # binlog_do_db, binlog_ignore_db; None: not known
    clock_difference_s: float
    tables: tuple[Table, ...]
    data_bytes: int
    cascade_children: tuple[tuple[str, str], ...] = ()
    replica: bool = False
    engines: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unlogging: tuple[str, ...] = ()


def read_facts(connection: source.Connection, now: datetime) -> Facts:
    """Ask everything. now: this machine's clock, aware; the server is asked for its own at once."""
    asked = datetime.now(UTC)
    server_clock = source.fetch(connection, "SELECT UTC_TIMESTAMP(6)")[0][0].replace(tzinfo=UTC)
    half_way = (datetime.now(UTC) - asked) / 2
    info = source.server_info(connection)
    names = ", ".join(f"'{name}'" for name in _VARIABLES)
    rows = source.fetch(connection, f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})")
    grants = read_grants(connection)
    sizes = source.fetch(
        connection, "SELECT SUM(DATA_LENGTH) FROM information_schema.TABLES WHERE TABLE_TYPE = 'BASE TABLE'"
    )
    return Facts(
        flavor=info.flavor,
        version=info.version,
        account=str(source.fetch(connection, "SELECT CURRENT_USER()")[0][0]),
        variables={str(name): str(value) for name, value in rows},
        grants=grants.everywhere,
        database_grants=grants.databases,
        binlog_filters=_binlog_filters(connection, info),
        clock_difference_s=(server_clock - (now + half_way)).total_seconds(),
        tables=tuple(read_tables(connection)),
        data_bytes=int(sizes[0][0] or 0),
        cascade_children=tuple(sorted({(c.db, c.table) for c in unlogged_cascades(connection, info)})),
        replica=doctor_binlog.is_replica(connection, info),
        engines=doctor_binlog.engines(connection),
        unlogging=doctor_binlog.unlogging(connection),
    )


def _binlog_filters(connection: source.Connection, info: source.ServerInfo) -> tuple[str, str] | None:
    new = info.flavor == "mysql" and info.version_tuple >= (8, 2)
    try:
        rows = source.fetch(connection, "SHOW BINARY LOG STATUS" if new else "SHOW MASTER STATUS")
    except (PrivilegeMissing, SourceError):
        return None
    return (str(rows[0][2] or ""), str(rows[0][3] or "")) if rows else None


def checks(facts: Facts) -> Iterator[Check]:
    """All server checks in the order in which a person would mend them."""
    yield from privilege_checks(facts)
    yield from binlog_checks(facts)
    yield from retention_checks(facts)
    yield from doctor_binlog.checks(facts)
    yield clock_check(facts)
    yield from table_checks(facts)
    case = facts.variables.get("lower_case_table_names", "0")
    if case not in ("0", "1"):
        yield fail(
            "lower_case_table_names",
            f"is {case}, must be 0 or 1",
            "names are stored as they were typed and compared in lower case: the binlog doesn't tell which table one means",
            "move the data to a server that is initialised with 0 or 1; the setting is fixed when a server is made",
        )
    elif case == "1":
        yield ok("lower_case_table_names", "1: names are in lower case")


# --- privileges -------------------------------------------------------------------------------------------------------


def privilege_checks(facts: Facts) -> Iterator[Check]:
    client = "BINLOG MONITOR" if facts.flavor == "mariadb" else "REPLICATION CLIENT"
    needed = [
        ("REPLICATION SLAVE", ("REPLICATION SLAVE",), "capture reads the binlog as a replica does"),
        (
            client,
            (client, "REPLICATION CLIENT", "SUPER"),
            "positions, GTIDs and the list of binlog files are read with it",
        ),
    ]
    for name, any_of, why in needed:
        if _has(facts, *any_of):
            yield ok(f"privilege {name}", "granted")
        else:
            yield fail(f"privilege {name}", f"`{facts.account}` lacks {name}", why, _grant(facts, name))
    yield _select_check(facts)
    lock = "RELOAD" if facts.flavor == "mariadb" else "FLUSH_TABLES"
    optional = [
        (lock, ("FLUSH_TABLES", "RELOAD"), "without it snapshots can't take the brief lock, which some tables need"),
        ("SHOW VIEW", ("SHOW VIEW",), "without it views are missing from the dump directory, with a warning"),
        ("TRIGGER", ("TRIGGER",), "without it triggers are missing from the dump directory, with a warning"),
        ("EVENT", ("EVENT",), "without it events are missing from the dump directory, with a warning"),
        ("PROCESS", ("PROCESS",), "without it a snapshot can't see long statements that its lock would wait behind"),
    ]
    for name, any_of, why in optional:
        if _has(facts, *any_of):
            yield ok(f"privilege {name}", "granted")
        else:
            yield advice(f"privilege {name}", f"`{facts.account}` lacks {name}", why, _grant(facts, name))


def _select_check(facts: Facts) -> Check:
    name = "privilege SELECT"
    why = "snapshots read the tables, and capture reads their definitions"
    if _has(facts, "SELECT"):
        return ok(name, "granted on all databases")
    some = sorted(db for db, found in facts.database_grants.items() if found & {"SELECT", "ALL PRIVILEGES"})
    if some:
        text = f"granted on {', '.join(f'`{db}`' for db in some)} only"
        return advice(name, text, "snapshots hold only the tables that the account may read", _grant(facts, "SELECT"))
    return fail(name, f"`{facts.account}` lacks SELECT", why, _grant(facts, "SELECT"))


def _has(facts: Facts, *any_of: str) -> bool:
    return "ALL PRIVILEGES" in facts.grants or any(name in facts.grants for name in any_of)


def _grant(facts: Facts, privilege: str) -> str:
    return f"GRANT {privilege} ON *.* TO {account_sql(facts.account)};"


# --- the binlog -------------------------------------------------------------------------------------------------------


def binlog_checks(facts: Facts) -> Iterator[Check]:
    if facts.variables.get("log_bin", "OFF").upper() not in ("ON", "1"):
        fix = "in my.cnf below [mysqld]: log_bin = binlog, then restart the server (it can't be set while it runs)"
        yield fail("log_bin", "the binary log is off", "changes are captured from the binary log", fix)
    else:
        yield ok("log_bin", "on")
    whole = "rows must be in the binlog whole, or a restore could not be exact"
    for name, wanted in (("binlog_format", "ROW"), ("binlog_row_image", "FULL")):
        value = facts.variables.get(name)
        if value is None:
            continue  # gone from later versions, where ROW and FULL are the only behaviour
        if value.upper() == wanted:
            yield ok(name, wanted)
        else:
            yield fail(name, f"is {value}, must be {wanted}", whole, _set(facts, name, f"'{wanted}'"))
    yield _metadata_check(facts)
    if facts.variables.get("binlog_checksum", "CRC32").upper() != "CRC32":
        why = "without checksums damage in the binlog or on the way can't be noticed"
        yield advice("binlog_checksum", "is NONE", why, _set(facts, "binlog_checksum", "'CRC32'"))
    yield _filter_check(facts)
    yield _server_id_check(facts)
    yield from _gtid_checks(facts)


def _metadata_check(facts: Facts) -> Check:
    name = "binlog_row_metadata"
    value = facts.variables.get(name)
    if value is None:
        why = "servers without it are too old for this version"
        return fail(
            name, f"this server ({facts.version}) doesn't have it", why, "upgrade to MySQL 8.0.1, MariaDB 10.5 or newer"
        )
    if value.upper() == "FULL":
        return ok(name, "FULL")
    why = (
        "without it the binlog doesn't name columns: capture reads them from the live server instead, and stops at a table "
        "that is altered or dropped faster than it can be read"
    )
    return advice(name, f"is {value}", why, _set(facts, name, "'FULL'"))


def _filter_check(facts: Facts) -> Check:
    name = "binlog filters"
    if facts.binlog_filters is None:
        return advice(
            name,
            "can't be read",
            "a server that leaves databases out of its binlog can't be captured whole",
            "grant REPLICATION CLIENT as above, then run doctor again",
        )
    do, ignore = facts.binlog_filters
    if not do and not ignore:
        return ok(name, "none")
    found = " and ".join(f"{n} = {v}" for n, v in (("binlog_do_db", do), ("binlog_ignore_db", ignore)) if v)
    why = "the server leaves changes out of its binlog: they would be missing from every restore without a trace"
    return fail(
        name,
        f"the server runs with {found}",
        why,
        "remove binlog_do_db and binlog_ignore_db from my.cnf and restart the server; leave tables out with "
        "`exclude` in rowback.toml instead",
    )


def _server_id_check(facts: Facts) -> Check:
    if facts.variables.get("server_id", "0") != "0":
        return ok("server_id", facts.variables["server_id"])
    return fail("server_id", "is 0", "a server without an id refuses to send its binlog", _set(facts, "server_id", "1"))


def _gtid_checks(facts: Facts) -> Iterator[Check]:
    if facts.flavor == "mariadb":
        yield ok("GTIDs", "always on with MariaDB")
        return
    if facts.variables.get("gtid_mode", "OFF").upper() == "ON":
        yield ok("gtid_mode", "ON")
        return
    why = "without GTIDs a restore target is a time or a file position, and a failover to a replica can't be followed"
    steps = (
        "SET PERSIST enforce_gtid_consistency = ON; SET PERSIST gtid_mode = OFF_PERMISSIVE; SET PERSIST "
        "gtid_mode = ON_PERMISSIVE; SET PERSIST gtid_mode = ON;"
    )
    yield advice("gtid_mode", f"is {facts.variables.get('gtid_mode', 'OFF')}", why, steps)


def retention_checks(facts: Facts) -> Iterator[Check]:
    name = "binlog expiry"
    seconds = float(facts.variables.get("binlog_expire_logs_seconds", "0"))
    seconds = seconds or float(facts.variables.get("expire_logs_days", "0")) * 86_400
    if seconds == 0:
        yield ok(name, "never")
    elif seconds >= EXPIRY_ADVICE_S:
        yield ok(name, f"{seconds / 86_400:.3g} days")
    else:
        why = "a capture that is down for longer than this loses changes for good"
        yield advice(name, f"{seconds / 3600:.3g} hours", why, _set(facts, "binlog_expire_logs_seconds", "604800"))


def _set(facts: Facts, name: str, value: str) -> str:
    """MariaDB has no SET PERSIST: what is set while it runs must go into the configuration file as well."""
    if facts.flavor == "mysql":
        return f"SET PERSIST {name} = {value};"
    return f"SET GLOBAL {name} = {value}; and in my.cnf below [mysqld]: {name} = {value.strip(chr(39))}"


def clock_check(facts: Facts) -> Check:
    difference = facts.clock_difference_s
    text = f"{abs(difference):.1f} s {'ahead of' if difference > 0 else 'behind'} this machine"
    if abs(difference) <= CLOCK_ADVICE_S:
        return ok("clock", f"the server's clock is {text}" if abs(difference) >= 0.1 else "equal to this machine's")
    why = "times given to `--to` and `--since` are compared with the server's commit times"
    return advice(
        "clock", f"the server's clock is {text}", why, "run a time service (chrony, systemd-timesyncd) on both machines"
    )


# --- tables -----------------------------------------------------------------------------------------------------------


def table_checks(facts: Facts) -> Iterator[Check]:
    """Tables that capture would refuse, and those without a key. facts.tables: those that are to be captured."""
    refused = []
    for table in facts.tables:
        try:
            check_supported(table)
        except UnsupportedColumn as error:
            refused.append((table, error.message))
    name = "column types"
    if refused:
        why = "capture stops at the first change of such a table"
        labels = ", ".join(f'"{table.label}"' for table, _ in refused[:_NAMED])
        fix = (
            f"exclude = [{labels}{', ...' if len(refused) > _NAMED else ''}]  # in the server's section of rowback.toml"
        )
        yield advice(name, "; ".join(_first([message for _, message in refused])), why, fix)
    else:
        yield ok(name, f"all {len(facts.tables)} tables can be captured")
    keyless = [table for table in facts.tables if not table.key]
    if keyless:
        why = "their rows have no identity: only a snapshot under the brief lock is exact for them"
        fix = f"ALTER TABLE {quote(keyless[0].db, keyless[0].name)} ADD PRIMARY KEY (...);"
        named = ", ".join(_first([f"`{t.label}`" for t in keyless]))
        yield advice("keys", f"no primary key, and no unique one over whole NOT NULL columns: {named}", why, fix)
    else:
        yield ok("keys", "every table has a primary or unique key")
    yield _cascade_check(facts)


def _cascade_check(facts: Facts) -> Check:
    name = "foreign keys"
    wanted = {(t.db, t.name) for t in facts.tables}
    children = [f"`{db}.{table}`" for db, table in facts.cascade_children if (db, table) in wanted]
    if not children:
        return ok(name, "none that changes rows without a trace in the binlog")
    why = (
        "their cascades leave no trace in the binlog; restores derive them from the parents' changes, and refuse what can't "
        "be derived"
    )
    fix = "take snapshots often (--lock brief)"
    if facts.flavor == "mysql" and "innodb_native_foreign_keys" in facts.variables:
        fix = "in my.cnf below [mysqld]: innodb_native_foreign_keys = OFF, then restart the server"
    else:
        fix += ", or let the application delete and change the child rows: ON DELETE RESTRICT ON UPDATE RESTRICT"
    return advice(name, f"with a cascading action: {', '.join(_first(children))}", why, fix)


def _first(texts: list[str]) -> list[str]:
    return texts if len(texts) <= _NAMED else [*texts[:_NAMED], f"and {len(texts) - _NAMED} more"]
