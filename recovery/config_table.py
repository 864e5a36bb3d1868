"""docs/CONFIG.md, generated from the settings: `python -m recovery.config_table docs/CONFIG.md` writes it.

tests/test_config.py fails while the file in docs/ differs from what this prints.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pydantic import BaseModel

from recovery import config

_INTRODUCTION = """\
# Configuration

<!-- Generated from recovery/config.py: edit the descriptions there, then run `make docs`. -->

Rowback reads one TOML file: the one named by `--config`, else by `ROWBACK_CONFIG`, else `rowback.toml` in the working
directory, else in the user's configuration folder (`~/.config/rowback/`), else in the system's (`/etc/xdg/rowback/`).
`rowback init` writes one.

Every key can be overridden from the environment: `ROWBACK_`, then the path to the key in capitals with `__` between its
parts (`-` in a server's name becomes `_`). Lists are comma-separated or a JSON array:

    ROWBACK_ARCHIVE__ROOT=s3://bucket/prefix
    ROWBACK_SERVERS__SHOP__PORT=3307
    ROWBACK_SERVERS__SHOP__EXCLUDE='shop.tmp_*,shop.cache'

Without any file the environment alone will do. An unknown key is an error, never ignored.

A password has no place in the file. It comes from the variable that `password_env` names, from the file that
`password_file` names, or from `ROWBACK_SERVERS__<NAME>__PASSWORD`, which wins over both. It is never taken from the
command line and never stands in a log.
"""


def render() -> str:
    sections: list[tuple[str, str, type[BaseModel]]] = [
        ("[archive]", "Where the archive lies.", config.ArchiveSettings),
        (
            "[archive.s3]",
            "Optional, for `s3://` roots. Credentials come from boto3's usual chain.",
            config.S3Settings,
        ),
        ("[capture]", "Optional: of the capture process, whatever servers it captures.", config.CaptureSettings),
        (
            "[servers.&lt;name&gt;]",
            "One table for each source server. The name stands in object names: 1 to 63 of `a-z`, `0-9`, `-` and `_`.",
            config.ServerSection,
        ),
    ]
    parts = [_INTRODUCTION]
    for title, text, model in sections:
        parts.append(f"\n## {title}\n\n{text}\n\n| key | default | range | meaning |\n|---|---|---|---|\n")
        for key, default, limits, description in config.describe(model):
            if key == "s3":
                continue
            shown = default if default in ("required", "not set") else f"`{default}`"
            parts.append(f"| `{key}` | {shown} | {limits} | {description} |\n")
    return "".join(parts).rstrip("\n") + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(render(), encoding="utf-8")
