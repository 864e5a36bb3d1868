"""The two workloads of the benchmark, as statements that a real server runs and logs.

`bulk`: three wide tables of mixed types (a shop's orders, JSON events, numeric readings), inserted, updated and deleted in
transactions of about 1,000 row changes. `oltp`: five tables, one row change a transaction, from four connections at once.

Values are drawn from hashes of the row's number: word lists, names, money, moments, UUIDs. Texts repeat as words do, not
as whole cells; UUIDs and hashes don't repeat at all. What the server says it changed is counted, and what its tables hold
at the end is summed up: the benchmark compares the archive with both.
"""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from testservers import Server

BULK_STEPS = 160
BULK_ORDERS, BULK_EVENTS, BULK_READINGS = 365_000, 285_000, 300_000  # inserted rows at scale 1
OLTP_CONNECTIONS = 4
OLTP_TRANSACTIONS = 320_000  # at scale 1

# A transaction's binlog cache stays in memory; durability is not what is measured here.
LOAD_OPTIONS: dict[str, str | int | bool | None] = {
    "sync_binlog": 0,
    "innodb_flush_log_at_trx_commit": 0,
    "innodb_doublewrite": "OFF",
    "innodb_buffer_pool_size": "768M",
    "innodb_redo_log_capacity": "1G",
    "binlog_cache_size": 16 << 20,
}


def _words(text: str) -> list[str]:
    return text.split()


_WORDS = _words(
    "please leave the parcel with our neighbour at number twelve call before delivery gift wrapping "
    "wanted second attempt customer asked for an invoice by mail damaged box replaced from stock express "
    "until noon pallet fragile glass return label enclosed paid cash size exchanged blue instead of green "
    "waiting supplier partial shipment über straße größe número señor façade café señal garçon"
)
_FIRST = (
    "Ada Ben Carla Dmitri Elena Farid Grete Hugo Ines Jörg Kenji Lucía Marek Nadia Otto Priya Quentin Rosa Søren Tove"
)
_LAST = (
    "Abel Bauer Costa Dubois Eriksen Fischer García Huber Ivanov Jansen Kowalski Lindqvist Müller Novák Olsen Petit Rossi "
    "Schmidt Tanaka Weber"
)
_CITY = "Aachen Bergen Córdoba Dresden Espoo Firenze Gdańsk Hamburg Innsbruck Jena Köln Łódź Malmö Nantes Oulu Porto"
_AGENTS = [
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Firefox/139.0",
    "okhttp/5.1",
]

TABLES = {
    "bulk": """
CREATE TABLE shop.orders (
  id bigint unsigned NOT NULL PRIMARY KEY, customer int unsigned NOT NULL,
  status enum('new','paid','packed','sent','delivered','returned') NOT NULL, channel varchar(16) NOT NULL,
  currency char(3) NOT NULL, total decimal(12,2) NOT NULL, tax decimal(10,2) NOT NULL, discount decimal(6,4) NULL,
  items smallint unsigned NOT NULL, weight_kg double NULL, email varchar(120) NOT NULL, ship_name varchar(80) NOT NULL,
  ship_street varchar(120) NOT NULL, ship_city varchar(60) NOT NULL, ship_zip varchar(12) NOT NULL, country char(2) NOT NULL,
  flags set('gift','express','fragile','insured') NULL, ordered datetime(6) NOT NULL, changed timestamp(6) NOT NULL,
  due date NULL, pickup time NULL, reference binary(16) NOT NULL, phone varchar(24) NULL, article varchar(80) NOT NULL,
  campaign varchar(60) NULL, address varbinary(16) NOT NULL, note varchar(255) NULL);
CREATE TABLE shop.events (
  id bigint unsigned NOT NULL PRIMARY KEY, session char(36) CHARACTER SET ascii NOT NULL, kind varchar(24) NOT NULL,
  user int unsigned NULL, path varchar(200) NOT NULL, referrer varchar(120) NULL,
  agent varchar(120) NOT NULL, status smallint NOT NULL,
  took float NOT NULL, happened datetime(3) NOT NULL, body json NULL);
CREATE TABLE shop.readings (
  sensor int unsigned NOT NULL, at bigint unsigned NOT NULL, temperature decimal(6,3) NULL, humidity tinyint unsigned NULL,
  pressure mediumint unsigned NULL, voltage float NULL, power double NULL, counter bigint NOT NULL,
  flags tinyint unsigned NULL, quality enum('good','suspect','bad') NOT NULL,
  received timestamp(3) NOT NULL, PRIMARY KEY (sensor, at));
""",
    "oltp": """
CREATE TABLE shop.accounts (
  id bigint unsigned NOT NULL PRIMARY KEY, owner varchar(80) NOT NULL, balance decimal(14,2) NOT NULL, version int NOT NULL,
  changed timestamp(6) NOT NULL);
CREATE TABLE shop.payments (
  id bigint unsigned NOT NULL PRIMARY KEY, account bigint unsigned NOT NULL, amount decimal(12,2) NOT NULL,
  reference varchar(40) NOT NULL, made datetime(6) NOT NULL, state enum('open','done','failed') NOT NULL);
CREATE TABLE shop.carts (
  id bigint unsigned NOT NULL PRIMARY KEY, customer int unsigned NOT NULL, article varchar(40) NOT NULL,
  pieces smallint unsigned NOT NULL, price decimal(10,2) NOT NULL, note varchar(120) NULL);
CREATE TABLE shop.sessions (
  token binary(16) NOT NULL PRIMARY KEY, user int unsigned NOT NULL, agent varchar(120) NOT NULL,
  seen timestamp(3) NOT NULL);
CREATE TABLE shop.stock (
  article int unsigned NOT NULL PRIMARY KEY, pieces int NOT NULL, reserved int NOT NULL, place varchar(20) NOT NULL);
""",
}
KEYS = {
    "orders": "id", "events": "id", "readings": 'sensor, "at"',
    "accounts": "id", "payments": "id", "carts": "id", "sessions": "token", "stock": "article",
}  # fmt: skip
# Summed up over a table's final rows, on the server and over the archive (DuckDB): exact numbers and lengths of texts.
SUMS = {
    "orders": ("sum(total)", "sum(customer)", "sum(char_length(note))", "sum(char_length(email))"),
    "events": ("sum(status)", "sum(char_length(path))", "sum(user)"),
    "readings": ("sum(temperature)", "sum(counter)", "sum(pressure)"),
    "accounts": ("sum(balance)", "sum(version)"),
    "payments": ("sum(amount)", "sum(char_length(reference))"),
    "carts": ("sum(price)", "sum(pieces)", "sum(char_length(note))"),
    "sessions": ("sum(user)", "sum(char_length(agent))"),
    "stock": ("sum(pieces)", "sum(reserved)"),
}


@dataclass(frozen=True)
class Loaded:
    """What the server said it did. changes: row changes by table and operation; final: row count and SUMS by table."""

    transactions: int
    changes: dict[str, dict[str, int]]
    final: dict[str, list[str]]


def load(server: Server, name: str, scale: float) -> Loaded:
    """Create the tables of set `name` and run its workload."""
    server.load("CREATE DATABASE shop CHARACTER SET utf8mb4;" + TABLES[name])
    run = _bulk if name == "bulk" else _oltp
    transactions, counts = run(server, scale)
    tables = [table for table in KEYS if f"CREATE TABLE shop.{table} " in TABLES[name]]
    return Loaded(
        transactions=transactions,
        changes={table: {op: counts[table, op] for op in ("insert", "update", "delete")} for table in tables},
        final={table: _sums(server, table) for table in tables},
    )


def _sums(server: Server, table: str) -> list[str]:
    sums = ", ".join(("count(*)", *SUMS[table]))
    return [str(value) for value in server.execute(f"SELECT {sums} FROM shop.{table}")[0]]


# --- bulk -------------------------------------------------------------------------------------------------------------


def _pick(words: str | list[str], salt: int) -> str:
    """SQL: one of the words, by a hash of the row's number `i` and a salt."""
    listed = words.split() if isinstance(words, str) else words
    quoted = ", ".join("'" + word.replace("'", "''") + "'" for word in listed)
    return f"ELT(1 + {_hash(salt)} % {len(listed)}, {quoted})"


def _hash(salt: int) -> str:
    # Multiplied: CRC32 is linear, and sums with different salts would give columns that hang together.
    return f"CRC32(i * {1_000_003 + salt * 40_503})"


def _order() -> list[str]:
    """The SQL of an order's columns."""
    words = ", ".join(_pick(_WORDS, salt) for salt in range(2, 9))
    first, last = _pick(_FIRST, 10), _pick(_LAST, 11)
    return [
        "i",
        f"{_hash(13)} % 50000",
        f"1 + ({_hash(14)} % 10 > 8)",
        _pick("web app phone shop", 15),
        _pick("EUR EUR EUR USD SEK", 16),
        f"({_hash(17)} % 50000) / 100",
        f"({_hash(17)} % 50000) / 600",
        f"IF({_hash(18)} % 4, NULL, ({_hash(18)} % 3000) / 10000)",
        f"1 + {_hash(19)} % 12",
        f"ROUND(({_hash(20)} % 30000) / 1000, 3)",
        f"CONCAT(LOWER({first}), '.', LOWER({last}), {_hash(12)} % 1000, '@example.org')",
        f"CONCAT({first}, ' ', {last})",
        f"CONCAT({_pick(_LAST, 21)}, 'straße ', {_hash(22)} % 180)",
        _pick(_CITY, 23),
        f"LPAD({_hash(24)} % 100000, 5, '0')",
        _pick("DE FR SE PL PT IT", 25),
        f"IF({_hash(26)} % 3, NULL, {_hash(27)} % 16)",
        f"NOW(6) - INTERVAL {_hash(28)} % 900000000 MICROSECOND",
        "NOW(6)",
        f"CURDATE() + INTERVAL {_hash(29)} % 30 DAY",
        f"IF({_hash(30)} % 5, NULL, SEC_TO_TIME({_hash(30)} % 86400))",
        "UNHEX(LEFT(SHA2(i, 256), 32))",
        f"CONCAT('+49 ', 30 + {_hash(56)} % 60, ' ', {_hash(57)} % 10000000)",
        f"CONCAT({_pick(_WORDS, 58)}, ' ', {_pick(_WORDS, 59)}, ' no. ', {_hash(60)} % 5000)",
        f"IF({_hash(61)} % 3, CONCAT('spring-', {_pick(_WORDS, 61)}, '-', {_hash(61)} % 40), NULL)",
        f"INET6_ATON(CONCAT('10.', {_hash(62)} % 256, '.', {_hash(63)} % 256, '.7'))",
        f"IF({_hash(1)} % 3 = 0, NULL, CONCAT_WS(' ', {words}))",
    ]


def _event() -> list[str]:
    """The SQL of an event's columns; three events a session, four of five with a JSON body."""
    sha = "SHA2(CONCAT('s', i DIV 3), 256)"
    parts = ", ".join(
        f"SUBSTR({sha}, {start}, {length})" for start, length in ((1, 8), (9, 4), (13, 4), (17, 4), (21, 12))
    )
    words = ", ".join((_pick(_WORDS, 64), _pick(_WORDS, 65), _pick(_WORDS, 66), _pick(_CITY, 67)))
    # A double, as from JSON that a client sends; a DECIMAL here would be an opaque value.
    price = f"({_hash(32)} % 10000) / 100e0"
    reference = f"JSON_OBJECT('page', {_pick('home list cart pay', 35)}, 'ok', {_hash(36)} % 2 = 0)"
    body = (
        f"JSON_OBJECT('article', {_hash(31)} % 20000, 'price', {price}, 'tags', JSON_ARRAY({_pick(_WORDS, 33)}, "
        f"{_pick(_WORDS, 34)}), 'ref', {reference}, 'text', CONCAT_WS(' ', {words}))"
    )
    return [
        "i",
        f"CONCAT_WS('-', {parts})",
        _pick("view click search add remove pay", 38),
        f"IF({_hash(39)} % 3, {_hash(40)} % 50000, NULL)",
        f"CONCAT('/', {_pick('shop help blog', 41)}, '/', {_pick(_WORDS, 42)}, '/', {_hash(43)} % 20000)",
        f"IF({_hash(68)} % 4, CONCAT('https://', {_pick(_WORDS[:20], 68)}, '.example.com/', {_hash(69)} % 300), NULL)",
        _pick(_AGENTS, 44),
        f"ELT(1 + {_hash(45)} % 8, 200, 200, 200, 200, 304, 304, 404, 500)",
        f"({_hash(46)} % 200000) / 1000",
        "NOW(3)",
        f"IF({_hash(47)} % 5, {body}, NULL)",
    ]


def _reading() -> list[str]:
    """The SQL of a reading's columns: 500 sensors, each every ten seconds."""
    return [
        "i % 500",
        "1700000000 + i DIV 500 * 10",
        f"({_hash(48)} % 40000) / 1000",
        f"{_hash(49)} % 100",
        f"95000 + {_hash(50)} % 9000",
        f"3 + ({_hash(51)} % 1000) / 1000",
        f"({_hash(52)} % 100000) / 64",
        f"i * 3 + {_hash(53)} % 3",
        f"{_hash(54)} % 4",
        f"1 + ({_hash(55)} % 50 = 0)",
        "NOW(3)",
    ]


def _bulk_statements(step: int, size: dict[str, int]) -> list[tuple[str, str, str]]:
    """(table, operation, statement) of one step. Blocks of rows come in, and rows of earlier blocks change or go."""

    def insert(table: str, columns: list[str]) -> tuple[str, str, str]:
        block = f"i >= {step * size[table]} AND i < {(step + 1) * size[table]}"
        return (
            table,
            "insert",
            f"INSERT INTO shop.{table} SELECT {', '.join(columns)} FROM shop_numbers.n WHERE {block}",
        )

    def moment(block: int) -> str:
        return f"1700000000 + {block * size['readings']} DIV 500 * 10"

    recent = {t: f"id BETWEEN {max(0, step - 6) * n} AND {max(1, step - 1) * n - 1}" for t, n in size.items()}
    older = {t: f"id BETWEEN {step // 2 * n} AND {(step // 2 + 1) * n - 1}" for t, n in size.items()}
    word = _WORDS[step % 50]
    changes = [
        ("orders", "status = 1 + status % 6, changed = NOW(6)", f"{recent['orders']} AND id % 8 = {step % 8}"),
        (
            "orders",
            f"note = CONCAT(LEFT(COALESCE(note, ''), 200), ' {word}'), total = total + 1, changed = NOW(6)",
            f"{older['orders']} AND id % 4 = {step % 4}",
        ),
        (
            "readings",
            "quality = 2, temperature = temperature + 0.125, counter = counter + 1",
            f"at BETWEEN {moment(max(0, step - 4))} AND {moment(max(1, step))} AND sensor % 6 = {step % 6}",
        ),
        (
            "events",
            f"status = 202, body = JSON_SET(COALESCE(body, '{{}}'), '$.retry', {step})",
            f"{recent['events']} AND id % 24 = {step % 24}",
        ),
    ]
    deletions = [
        ("orders", f"{older['orders']} AND id % 18 = {step % 18}"),
        ("events", f"{older['events']} AND id % 9 = {step % 9}"),
        ("readings", f"at BETWEEN 1700000000 AND {moment(step // 2)} AND sensor = {step * 3}"),
    ]
    return [
        insert("orders", _order()),
        insert("events", _event()),
        insert("readings", _reading()),
        *((table, "update", f"UPDATE shop.{table} SET {what} WHERE {which}") for table, what, which in changes),
        *((table, "delete", f"DELETE FROM shop.{table} WHERE {which}") for table, which in deletions),
    ]


def _bulk(server: Server, scale: float) -> tuple[int, Counter[tuple[str, str]]]:
    size = {
        table: max(8, round(rows * scale / BULK_STEPS))
        for table, rows in (("orders", BULK_ORDERS), ("events", BULK_EVENTS), ("readings", BULK_READINGS))
    }
    counts: Counter[tuple[str, str]] = Counter()
    transactions = 0
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SET SESSION sql_mode = '', cte_max_recursion_depth = 10000000, sql_log_bin = 0")
        cursor.execute("CREATE DATABASE shop_numbers")
        cursor.execute(
            f"CREATE TABLE shop_numbers.n (i bigint PRIMARY KEY) WITH RECURSIVE s (i) AS (SELECT 0 UNION ALL "
            f"SELECT i + 1 FROM s WHERE i < {max(size.values()) * BULK_STEPS}) SELECT i FROM s"
        )
        cursor.execute("SET SESSION sql_log_bin = 1")
        for step in range(BULK_STEPS):
            for table, operation, statement in _bulk_statements(step, size):
                changed = cursor.execute(statement)
                counts[table, operation] += changed
                transactions += changed > 0
        cursor.execute("SET SESSION sql_log_bin = 0")
        cursor.execute("DROP DATABASE shop_numbers")
    return transactions, counts


# --- OLTP -------------------------------------------------------------------------------------------------------------

# Each statement changes exactly one row and, in autocommit mode, is a transaction; `c` keeps connections apart.
_PROCEDURE = """
CREATE PROCEDURE shop.work(c INT, rounds INT)
BEGIN
  DECLARE i INT DEFAULT 0;
  DECLARE k BIGINT UNSIGNED;
  WHILE i < rounds DO
    SET k = c * 10000000 + i;
    INSERT INTO accounts VALUES (k, CONCAT('owner ', CRC32(k) % 90000), (CRC32(k) % 1000000) / 100, 1, NOW(6));
    INSERT INTO carts VALUES (k, CRC32(k) % 50000, CONCAT('article ', CRC32(k + 1) % 3000), 1 + k % 9,
      (CRC32(k + 2) % 90000) / 100, IF(k % 3, NULL, CONCAT('wish ', CRC32(k + 3) % 700)));
    INSERT INTO payments VALUES (k, k - i % 7, (CRC32(k + 4) % 70000) / 100, HEX(CRC32(k + 5)), NOW(6), 'open');
    UPDATE accounts SET balance = balance - 7.25, version = version + 1, changed = NOW(6) WHERE id = k - i % 50;
    UPDATE stock SET pieces = pieces - 1, reserved = reserved + 2 WHERE article = c * 1000 + i % 500;
    UPDATE payments SET state = 'done' WHERE id = k;
    INSERT INTO sessions VALUES (UNHEX(LEFT(SHA2(k, 256), 32)), CRC32(k) % 50000, 'Mozilla/5.0 (X11; Linux x86_64)', NOW(3));
    UPDATE accounts SET balance = balance + 1.75, version = version + 1, changed = NOW(6) WHERE id = k;
    UPDATE carts SET pieces = pieces + 1 WHERE id = k;
    DELETE FROM carts WHERE id = k;
    SET i = i + 1;
  END WHILE;
END
"""
_ROUND = (
    ("accounts", "insert"), ("carts", "insert"), ("payments", "insert"), ("accounts", "update"), ("stock", "update"),
    ("payments", "update"), ("sessions", "insert"), ("accounts", "update"), ("carts", "update"), ("carts", "delete"),
)  # fmt: skip


def _oltp(server: Server, scale: float) -> tuple[int, Counter[tuple[str, str]]]:
    rounds = max(1, round(OLTP_TRANSACTIONS * scale / OLTP_CONNECTIONS / len(_ROUND)))
    with server.connect(database="shop") as connection, connection.cursor() as cursor:
        cursor.execute("SET SESSION sql_log_bin = 0")
        cursor.execute(_PROCEDURE)
        cursor.execute("SET SESSION sql_log_bin = 1")
        articles = [(c * 1000 + a, 100000, 0, f"aisle {a % 40}") for c in range(OLTP_CONNECTIONS) for a in range(500)]
        stocked = cursor.executemany("INSERT INTO stock VALUES (%s, %s, %s, %s)", articles)

    def work(c: int) -> None:
        with server.connect(database="shop", read_timeout=1800) as connection, connection.cursor() as cursor:
            cursor.execute("CALL work(%s, %s)", (c, rounds))

    with ThreadPoolExecutor(OLTP_CONNECTIONS) as pool:
        list(pool.map(work, range(OLTP_CONNECTIONS)))
    counts = Counter({("stock", "insert"): int(stocked or 0)})
    for pair in _ROUND:
        counts[pair] += rounds * OLTP_CONNECTIONS
    return rounds * OLTP_CONNECTIONS * len(_ROUND) + 1, counts
