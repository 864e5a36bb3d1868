"""How a restore's rows are written: the format, its compression and where files and statements are cut."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

from recovery.errors import ConfigError

FORMATS: Final = ("mydumper", "parquet", "sql", "csv")
STATEMENT_BYTES: Final = 1_000_000
FILE_BYTES: Final = 64 * 1024 * 1024
MIN_STATEMENT_BYTES: Final = 1024
_COMPRESSIONS: Final = {
    "mydumper": ("none", "gzip"),  # myloader 0.10 reads gzip alone; so does every later one
    "parquet": ("zstd", "gzip", "none"),
    "sql": ("none", "gzip", "zstd"),
    "csv": ("none", "gzip", "zstd"),
}
SUFFIX: Final = {"none": "", "gzip": ".gz", "zstd": ".zst"}


@dataclass(frozen=True)
class OutputOptions:
    """format: of FORMATS. compress: none, gzip or zstd; empty for the format's own (zstd inside Parquet, else none).
    statement_bytes: of an INSERT, and of the lines that a CSV is cut by; a row is never cut. rows_per_file: at most so many
    rows of a table in a file; None: files of about file_bytes. Raises ConfigError for what a format's readers can't read."""

    format: str = "mydumper"
    compress: str = ""
    statement_bytes: int = STATEMENT_BYTES
    rows_per_file: int | None = None
    file_bytes: int = FILE_BYTES

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise ConfigError(f"`{self.format}` is no format of a restore", hint=f"Use {', '.join(FORMATS)}.")
        known = _COMPRESSIONS[self.format]
        if self.compress and self.compress not in known:
            raise ConfigError(
                f"format {self.format} can't be compressed with `{self.compress}`",
                hint=f"Use --compress {' or '.join(known)}."
                + (" myloader 0.10 reads no zstd." if (self.format, self.compress) == ("mydumper", "zstd") else ""),
            )
        if self.statement_bytes < MIN_STATEMENT_BYTES:
            raise ConfigError(
                f"statements of {self.statement_bytes} bytes hold no row", hint="Give --statement-size 1KiB or more."
            )
        if self.rows_per_file is not None and self.rows_per_file < 1:
            raise ConfigError(
                "files of no rows can't be written", hint="Give --rows-per-file 1 or more, or leave it out."
            )

    @property
    def codec(self) -> str:
        return self.compress or _COMPRESSIONS[self.format][0]

    @property
    def suffix(self) -> str:
        """What compressed files' names end in. Parquet compresses inside."""
        return "" if self.format == "parquet" else SUFFIX[self.codec]

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "compress": self.codec}
