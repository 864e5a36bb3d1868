"""rowback.toml as text: where it is, what it says, on which line; and the `ROWBACK_*` variables laid over it.

Knows nothing of what the keys mean (recovery/config.py does), except that a password has no place in the file.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import platformdirs
from pydantic import SecretStr

from recovery.errors import ConfigError

FILE_NAME = "rowback.toml"
PREFIX = "ROWBACK_"
_SECTIONS = ("archive", "capture", "servers")


@dataclass(frozen=True)
class Origin:
    """Where the settings came from, to point at a line."""

    path: Path | None
    text: str

    def at(self, location: tuple[str, ...]) -> str:
        """`file`, line n of the key (or of its nearest section that is there)."""
        if self.path is None:
            return "the environment"
        line = _line(self.text, location)
        return f"`{self.path}`, line {line}" if line else f"`{self.path}`"


def candidates() -> list[Path]:
    """The places looked at without --config and ROWBACK_CONFIG, first match wins."""
    user = platformdirs.user_config_path("rowback", appauthor=False)
    system = platformdirs.site_config_path("rowback", appauthor=False)
    return [Path.cwd() / FILE_NAME, user / FILE_NAME, system / FILE_NAME]


def looked_at() -> str:
    return ", ".join(f"`{path}`" for path in candidates())


def find(config: Path | str | None, environ: Mapping[str, str]) -> Path | None:
    """The configuration file; None if there is none. A file that was named but isn't there is a ConfigError."""
    for source, given in (("--config", config), ("ROWBACK_CONFIG", environ.get("ROWBACK_CONFIG") or None)):
        if given is None:
            continue
        path = Path(given).expanduser()
        if not path.is_file():
            raise ConfigError(
                f"{source} names `{path}`, which is not a file",
                hint="Correct the path, or write the file with `rowback init`.",
            )
        return path
    return next((path for path in candidates() if path.is_file()), None)


def read(path: Path) -> tuple[dict[str, Any], Origin]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"can't read `{path}`: {error.strerror}", hint="Check the file's owner and mode.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"`{path}` is not UTF-8 text", hint="Save it as UTF-8.") from error
    try:
        return tomllib.loads(text), Origin(path, text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"`{path}` is not valid TOML: {_toml_reason(str(error))}", hint='Strings need quotes: host = "127.0.0.1".'
        ) from None


def refuse_passwords(raw: Mapping[str, Any], origin: Origin) -> None:
    """A password in the file would end up in copies, backups and version control of it."""
    servers = raw.get("servers")
    for name, section in servers.items() if isinstance(servers, dict) else ():
        if isinstance(section, dict) and "password" in section:
            raise ConfigError(
                f"{origin.at(('servers', name, 'password'))}: a password doesn't belong into this file",
                hint='Write password_env = "NAME_OF_A_VARIABLE" or password_file = "/path/to/a/0600/file" instead.',
            )


def overlay(
    raw: dict[str, Any], environ: Mapping[str, str], list_keys: frozenset[str]
) -> tuple[dict[tuple[str, ...], str], dict[str, SecretStr]]:
    """Lay ROWBACK_ARCHIVE__ROOT, ROWBACK_SERVERS__SHOP__PORT and the like over `raw`, in place.

    Returns which variable gave which key, and the passwords given as ROWBACK_SERVERS__<NAME>__PASSWORD. A server whose
    name has `-` is written with `_` in the variable. Lists are comma-separated, or a JSON array.
    """
    variables: dict[tuple[str, ...], str] = {}
    passwords: dict[str, SecretStr] = {}
    for variable in sorted(environ):
        if not variable.startswith(PREFIX) or "__" not in variable:
            continue
        location = tuple(part.lower() for part in variable.removeprefix(PREFIX).split("__"))
        if location[0] not in _SECTIONS:
            raise ConfigError(
                f"environment variable `{variable}`: unknown section `{location[0]}`",
                hint=f"Sections are {', '.join(_SECTIONS)}.{did_you_mean(location[0], _SECTIONS)}",
            )
        if location[0] == "servers" and len(location) > 1:
            location = ("servers", _server_label(raw, location[1]), *location[2:])
        if len(location) == 3 and location[0] == "servers" and location[2] == "password":
            passwords[location[1]] = SecretStr(environ[variable])
            _section(raw, location[:2], variable)
            continue
        value: Any = environ[variable]
        if location[-1] in list_keys:
            value = _list(value, variable)
        _section(raw, location[:-1], variable)[location[-1]] = value
        variables[location] = variable
    return variables, passwords


def did_you_mean(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=3)
    return f" Did you mean {' or '.join(f'`{name}`' for name in near)}?" if near else ""


def _server_label(raw: Mapping[str, Any], written: str) -> str:
    servers = raw.get("servers")
    for name in servers if isinstance(servers, dict) else ():
        if name.lower().replace("-", "_") == written:
            return str(name)
    return written


def _section(raw: dict[str, Any], location: tuple[str, ...], variable: str) -> dict[str, Any]:
    section = raw
    for part in location:
        section = section.setdefault(part, {})
        if not isinstance(section, dict):
            raise ConfigError(
                f"environment variable `{variable}` goes below `{part}`, which is a value",
                hint="docs/CONFIG.md lists all keys.",
            )
    return section


def _list(text: str, variable: str) -> list[Any]:
    if not text.lstrip().startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, list):
        raise ConfigError(f"environment variable `{variable}` is not a JSON array", hint='Write a,b or ["a", "b"].')
    return value


def _line(text: str, location: tuple[str, ...]) -> int | None:
    """The line of a key in TOML text: of `key = ` below its [section], else of the nearest section's header."""
    section: tuple[str, ...] = ()
    header_line, nearest = None, 0
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[\s*([^\[\]]+?)\s*\]", line)
        if header:
            section = tuple(part.strip().strip("\"'") for part in header.group(1).split("."))
            shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(section, location, strict=False)))
            if shared > nearest:
                nearest, header_line = shared, number
            continue
        key = re.match(r"\s*([A-Za-z0-9_.\"'-]+?)\s*=", line)
        if key and (*section, *(part.strip("\"'") for part in key.group(1).split("."))) == location:
            return number
    return header_line


def _toml_reason(text: str) -> str:
    return text[:1].lower() + text[1:].replace("(at ", "(")
