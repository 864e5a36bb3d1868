"""Object names: which key holds what, and the strict percent-encoding of database and table names.

MySQL accepts tables named `../../etc`, ` a` and `A` beside `a`; object names must survive case-insensitive file systems'
habits, so only lower-case letters, digits, `-` and `_` stand for themselves and every other byte of the UTF-8 name is
written `%XX` (upper-case letters too).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import unquote_to_bytes

_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-_")
MAX_TABLE_KEY = 200
_SERVER = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


def encode(name: str) -> str:
    """Percent-encode a database or table name; injective, and never `.`, `..` or empty for a non-empty name."""
    return "".join(chr(b) if b in _PLAIN else f"%{b:02X}" for b in name.encode())


def decode(text: str) -> str:
    """The inverse of `encode`."""
    return unquote_to_bytes(text).decode()


def valid_label(text: str) -> bool:
    """Whether a tenant's or server's name from the configuration can stand in an object name as it is."""
    return _SERVER.fullmatch(text) is not None


def table_key(db: str, table: str) -> str:
    """A table's part of object names. Where it would be longer than a file name may be (NAME_MAX is 255; 64 characters of
    three bytes each need 576), it is cut and ends in `~` and a digest; `~` occurs nowhere else."""
    text = f"{encode(db)}.{encode(table)}"
    if len(text) <= MAX_TABLE_KEY:
        return text
    digest = hashlib.sha256(f"{db}\0{table}".encode()).hexdigest()
    return f"{text[:160]}~{digest[:32]}"


@dataclass(frozen=True)
class Layout:
    """The names of one server's objects below the archive's root."""

    tenant: str
    server: str

    @property
    def prefix(self) -> str:
        return f"{self.tenant}/{self.server}/"

    @property
    def log_prefix(self) -> str:
        return f"{self.prefix}log/"

    def log_version(self, version: int) -> str:
        return f"{self.log_prefix}{version:020d}.json"

    def parse_log_version(self, key: str) -> int | None:
        """The version number of a log object's key; None for anything else."""
        match = re.fullmatch(re.escape(self.log_prefix) + r"(\d{20})\.json", key)
        return int(match.group(1)) if match else None

    @property
    def index_prefix(self) -> str:
        return f"{self.prefix}index/"

    @property
    def index_latest(self) -> str:
        return f"{self.index_prefix}_latest.json"

    def index(self, version: int) -> str:
        return f"{self.index_prefix}{version:020d}.parquet"

    def parse_index(self, key: str) -> int | None:
        """The version number of an index object's key; None for anything else."""
        match = re.fullmatch(re.escape(self.index_prefix) + r"(\d{20})\.parquet", key)
        return int(match.group(1)) if match else None

    def segment(self, db: str, table: str, cut_at_us: int, first: int, last: int, digest: str, attempt: str) -> str:
        folder = f"{self.prefix}changes/{table_key(db, table)}/{_hour(cut_at_us)}"
        return f"{folder}/{first}-{last}-{digest[:12]}-{attempt}.parquet"

    def transactions(self, cut_at_us: int, first: int, last: int, digest: str, attempt: str) -> str:
        return f"{self.prefix}transactions/{_hour(cut_at_us)}/{first}-{last}-{digest[:12]}-{attempt}.parquet"

    def pending(self, seq: int, digest: str, attempt: str) -> str:
        return f"{self.prefix}pending/{seq}-{digest[:12]}-{attempt}.parquet"

    @staticmethod
    def last_seq(key: str) -> int | None:
        """The newest transaction that a change segment, transactions segment or pending object may hold rows of, by its
        name; None for other keys."""
        parts = key.rpartition("/")[2].split("-")
        numbers = parts[:-2]  # then the hash and the attempt
        return int(numbers[-1]) if len(numbers) in (1, 2) and all(n.isdigit() for n in numbers) else None

    def baseline(self, snapshot_id: str, db: str, table: str, number: int) -> str:
        return f"{self.prefix}baselines/{snapshot_id}/{table_key(db, table)}/{number}.parquet"

    def definitions(self, snapshot_id: str) -> str:
        return f"{self.prefix}baselines/{snapshot_id}/~definitions.parquet"

    def backup(self, started_at: datetime) -> str:
        """The prefix of a dump directory: `backups/<tenant>/<server>/YYYY-MM-DD/HHMMSS/`."""
        return f"backups/{self.tenant}/{self.server}/{started_at.astimezone(UTC):%Y-%m-%d/%H%M%S}/"


def _hour(cut_at_us: int) -> str:
    moment = datetime.fromtimestamp(cut_at_us / 1_000_000, UTC)
    return f"date={moment:%Y-%m-%d}/hour={moment:%H}"
