"""Writes a commented rowback.toml, its comments from the settings' own descriptions.

Promises: an existing file is kept unless told otherwise; the new one appears whole or not at all; no password is asked
for or written, only the name of the variable that holds it.
"""

from __future__ import annotations

import os
import re
import secrets
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ValidationError

from recovery import config
from recovery.archive import names
from recovery.config import ArchiveSettings, CaptureSettings, S3Settings, ServerSection
from recovery.errors import ConfigError


@dataclass(frozen=True)
class InitRequest:
    """What goes into the file; all else is written as a comment with its default."""

    path: Path
    name: str
    host: str
    port: int
    user: str
    root: str
    force: bool = False


@dataclass(frozen=True)
class Initialised:
    """The written file, and the environment variable that it expects the password in."""

    path: Path
    password_env: str


def password_variable(name: str) -> str:
    return re.sub(r"[^A-Z0-9]", "_", name.upper()) + "_PASSWORD"


def write(request: InitRequest) -> Initialised:
    """Write the file. Raises ConfigError for a bad value, an existing file or a folder that can't be written."""
    _check(request)
    variable = password_variable(request.name)
    path = request.path.absolute()
    if path.exists() and not request.force:
        raise ConfigError(f"`{path}` exists already", hint="Keep it, or overwrite it with --force.")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        temporary.write_text(render(request, variable), encoding="utf-8")
        if request.force:
            temporary.replace(path)
        else:
            os.link(temporary, path)  # unlike a rename, refuses a file that appeared meanwhile
    except FileExistsError:
        raise ConfigError(f"`{path}` exists already", hint="Keep it, or overwrite it with --force.") from None
    except OSError as error:
        raise ConfigError(
            f"can't write `{path}`: {error.strerror}", hint="Check that the folder exists and is writable."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    return Initialised(path, variable)


def _check(request: InitRequest) -> None:
    if not names.valid_label(request.name):
        raise ConfigError(
            f"`{request.name}` can't be a server's name here",
            hint="Use 1 to 63 of a-z, 0-9, `-` and `_`, beginning with a letter or digit; it is a label, not the "
            "host name.",
        )
    try:
        ArchiveSettings(root=request.root)
        ServerSection(host=request.host, port=request.port, user=request.user)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        raise ConfigError(
            f"--{problem['loc'][0]}: {problem['msg'].removeprefix('Value error, ')}", hint="See `rowback init --help`."
        ) from None


def render(request: InitRequest, variable: str) -> str:
    """The file's text: the keys that were given, and every other one as a comment."""
    lines = [
        "# Rowback. Every key can be overridden from the environment, for example ROWBACK_ARCHIVE__ROOT or",
        f"# ROWBACK_SERVERS__{re.sub('[^A-Z0-9]', '_', request.name.upper())}__PORT. docs/CONFIG.md explains them all.",
        "",
    ]
    lines += ["[archive]", *_section(ArchiveSettings, {"root": request.root}, skip=("s3",))]
    lines += [
        "",
        "# Only for an s3:// root; credentials come from the environment, a profile or the instance's role.",
        "[archive.s3]",
        *_section(S3Settings, {}),
        "",
        "# Of the capture process, whatever servers it captures.",
        "[capture]",
        *_section(CaptureSettings, {}),
    ]
    given: dict[str, str | int] = {
        "host": request.host,
        "port": request.port,
        "user": request.user,
        "password_env": variable,
    }
    lines += [
        "",
        "# One such table for each source server; --server NAME picks one.",
        f"[servers.{request.name}]",
        *_section(ServerSection, given),
    ]
    return "\n".join(lines) + "\n"


def _section(model: type[BaseModel], given: Mapping[str, str | int], skip: tuple[str, ...] = ()) -> list[str]:
    lines = []
    for key, default, limits, description in config.describe(model):
        if key in skip:
            continue
        text = description + (f" {limits[:1].upper()}{limits[1:]}." if limits else "")
        lines += textwrap.wrap(text, 110, initial_indent="# ", subsequent_indent="# ")
        if key in given:
            lines.append(f"{key} = {_toml(given[key])}")
        else:
            example = '""' if default == "not set" else default
            lines.append(f"# {key} = {example}")
    return lines


def _toml(value: str | int) -> str:
    if isinstance(value, int):
        return str(value)
    escaped = "".join(
        f"\\u{ord(c):04X}" if ord(c) < 32 or ord(c) == 127 else f"\\{c}" if c in '"\\' else c for c in value
    )
    return f'"{escaped}"'
