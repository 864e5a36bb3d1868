"""Settings: read once at the edge, passed down as frozen models.

`load()` finds rowback.toml, lays `ROWBACK_*` environment variables over it and validates it all. It reads no password:
`Settings.server(name)` does, for the one server that is about to be used.

Promises: an unknown key, a bad value or a password in the file is a ConfigError naming the key, its file and line (or
the environment variable) and, for a misspelt key, the nearest ones. No password is ever in a repr, a message or a log.
docs/CONFIG.md is generated from the fields below (recovery/config_table.py).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from recovery import config_file
from recovery.archive import names
from recovery.errors import ConfigError

_LABEL_RULE = "1 to 63 of a-z, 0-9, `-` and `_`, beginning with a letter or digit"


class ServerOptions(BaseModel):
    """What a server's section and the resolved settings have in common."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", min_length=1, description="Host name or address of the MySQL or MariaDB server.")
    port: int = Field(3306, ge=1, le=65535, description="TCP port of the server.")
    user: str = Field(
        "rowback", min_length=1, description="Account that captures and dumps; `rowback doctor` prints its grants."
    )
    ssl_ca: str | None = Field(
        None,
        description="CA certificate file (PEM). With it, TLS is required and the server's certificate is verified.",
    )
    ssl_verify_identity: bool = Field(
        True,
        description="With `ssl_ca`: the certificate must also name `host`. Turn it off only where the CA signs for this "
        "server alone.",
    )
    ssl_cert: str | None = Field(None, description="Client certificate file (PEM), for accounts that require one.")
    ssl_key: str | None = Field(None, description="Its private key file (PEM).")
    failover: bool = Field(
        False,
        description="Follow the address to another MySQL server of the same lineage, by GTIDs, after proof that it holds "
        "all that was captured. Off: another server is refused.",
    )
    connect_timeout_s: int = Field(10, ge=1, le=300, description="Seconds to wait for a connection.")
    include: tuple[str, ...] = Field(
        (),
        description="Patterns `db.table` (`*` and `?` stand for any text and any letter): only these tables are "
        "captured and dumped. Empty: all.",
    )
    exclude: tuple[str, ...] = Field(
        (), description="Patterns `db.table` of tables that are left out; stronger than `include`."
    )
    window_seconds: float = Field(
        10,
        gt=0,
        le=300,
        description="Seconds after which an open window of changes is committed, if it holds much for the number of "
        "objects that it makes.",
    )
    window_max_seconds: float = Field(
        300,
        gt=0,
        le=3600,
        description="Seconds to which a window that holds little is stretched, 2 for each object that it would make: what a "
        "loss of the source with its binlog can cost at most. Not above `window_seconds`: never stretched.",
    )
    window_rows: int = Field(500_000, ge=1, description="Row images after which the window is committed early.")
    window_bytes: int = Field(
        64 * 1024 * 1024, ge=1, description="Bytes of binlog events after which the window is committed early."
    )
    memory_bytes: int = Field(
        256 * 1024 * 1024,
        ge=16 * 1024 * 1024,
        description="Bytes of this server's decoded rows that capture holds at most; a larger transaction is uploaded in "
        "parts that become visible with its commit.",
    )
    scratch_host: str | None = Field(
        None,
        min_length=1,
        description="An empty server of the source's kind and version on which DDL may be replayed; what is made there is "
        "dropped after each use. A restore or roll-forward has statements run there whose effect on rows can't be computed. "
        "Capture, from sources without binlog_row_metadata=FULL, settles tables there that change faster than their columns "
        "can be read, where it would stop otherwise.",
    )
    scratch_port: int = Field(3306, ge=1, le=65535, description="TCP port of the scratch server.")
    scratch_user: str = Field(
        "rowback", min_length=1, description="Account on the scratch server, with all privileges."
    )
    scratch_password_env: str | None = Field(
        None, min_length=1, description="Name of the environment variable that holds its password; none without it."
    )

    spool_folder: str | None = Field(
        None,
        min_length=1,
        description="Folder in which closed windows wait while the store is away. Not set: `rowback/spool` in the user's "
        "state folder.",
    )
    spool_bytes: int = Field(
        4 * 1024 * 1024 * 1024,
        ge=0,
        description="Bytes that it may hold; when it is full, capture pauses until the store is back. 0: no spool.",
    )

    def wants(self, db: str, table: str) -> bool:
        """Whether `include` and `exclude` let this table be captured and dumped. Names are compared exactly."""
        return wanted(self.include, self.exclude, db, table)


def wanted(include: tuple[str, ...], exclude: tuple[str, ...], db: str, table: str) -> bool:
    """Whether a filter lets a table through: some `include` pattern matches (or there is none) and no `exclude` does."""
    name = f"{db}.{table}"
    included = not include or any(_matches(pattern, name) for pattern in include)
    return included and not any(_matches(pattern, name) for pattern in exclude)


def _matches(pattern: str, name: str) -> bool:
    expression = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(expression, name, re.DOTALL) is not None


class ServerSettings(ServerOptions):
    """One source server with its password resolved: what the rest of Rowback is given."""

    name: str
    password: SecretStr = SecretStr("")
    scratch_password: SecretStr = SecretStr("")

    def scratch(self) -> ServerSettings | None:
        """The scratch server as settings to connect with. Raises ConfigError if it is the source itself."""
        if self.scratch_host is None:
            return None
        if (self.scratch_host, self.scratch_port) == (self.host, self.port):
            raise ConfigError(
                f"`scratch_host` of server `{self.name}` is the source itself",
                hint="Name a server that holds nothing: it is wiped after each use.",
            )
        return ServerSettings(
            name=f"{self.name}-scratch",
            host=self.scratch_host,
            port=self.scratch_port,
            user=self.scratch_user,
            password=self.scratch_password,
            connect_timeout_s=self.connect_timeout_s,
        )


class ServerSection(ServerOptions):
    """`[servers.<name>]` as it stands in the file and the environment."""

    password_env: str | None = Field(
        None, min_length=1, description="Name of the environment variable that holds the password."
    )
    password_file: str | None = Field(
        None,
        min_length=1,
        description="File that holds the password (its first line; mode 0600). A relative path starts at "
        "rowback.toml's folder.",
    )


class S3Settings(BaseModel):
    """`[archive.s3]`: credentials come from boto3's usual chain (environment, profile, instance role)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoint_url: str | None = Field(None, description="Address of an S3-compatible store; not needed for AWS.")
    region: str | None = Field(None, description="Region of the bucket.")
    kms_key_id: str | None = Field(None, description="KMS key that encrypts new objects (SSE-KMS).")


class ArchiveSettings(BaseModel):
    """`[archive]`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    root: str = Field(description="Where the archive lies: `file:///folder` or `s3://bucket/prefix`.")
    tenant: str = Field("default", description=f"First part of every object name: {_LABEL_RULE}.")
    s3: S3Settings = Field(S3Settings(), description="Only for `s3://` roots.")

    @field_validator("root")
    @classmethod
    def _known_scheme(cls, value: str) -> str:
        if value.startswith(("file:///", "file://localhost/")) or (
            value.startswith("s3://") and len(value) > len("s3://")
        ):
            return value
        raise ValueError("must be `file:///folder` (three slashes, an absolute path) or `s3://bucket/prefix`")

    @field_validator("tenant")
    @classmethod
    def _label(cls, value: str) -> str:
        if names.valid_label(value):
            return value
        raise ValueError(f"must be {_LABEL_RULE}, for it stands in object names as it is")


class CaptureSettings(BaseModel):
    """`[capture]`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metrics_port: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="Port of 127.0.0.1 on which a running capture gives its figures (`/metrics` for Prometheus, `/health`); "
        "`rowback status` asks there, too. Of several processes each takes the port plus its number.",
    )


class Document(BaseModel):
    """The whole file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    archive: ArchiveSettings
    capture: CaptureSettings = CaptureSettings()
    servers: dict[str, ServerSection] = Field(default_factory=dict)

    @field_validator("servers")
    @classmethod
    def _labels(cls, value: dict[str, ServerSection]) -> dict[str, ServerSection]:
        for name in value:
            if not names.valid_label(name):
                raise ValueError(
                    f"the server's name `{name}` must be {_LABEL_RULE}, for it stands in object names as it is"
                )
        return value


class Settings(BaseModel):
    """Everything read from the file and the environment. `path` is None when the environment alone gave it all."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path | None
    archive: ArchiveSettings
    servers: dict[str, ServerSection]
    capture: CaptureSettings = CaptureSettings()
    # Passwords given directly as ROWBACK_SERVERS__<NAME>__PASSWORD.
    passwords: dict[str, SecretStr] = Field(default_factory=dict)

    def server_name(self, name: str | None) -> str:
        """The asked-for server, or the only one. Raises ConfigError for an unknown name or an open choice."""
        known = ", ".join(f"`{n}`" for n in sorted(self.servers)) or "none"
        if name is None and len(self.servers) == 1:
            return next(iter(self.servers))
        if name in self.servers:
            return name
        if name is None and not self.servers:
            raise ConfigError(
                f"{self.where} names no server",
                hint="Add a section such as [servers.shop] with host, port, user and password_env; `rowback init` "
                "writes one.",
            )
        if name is None:
            raise ConfigError(f"{self.where} has several servers: {known}", hint="Pick one with --server NAME.")
        raise ConfigError(
            f"{self.where} has no server `{name}`",
            hint=f"Servers there: {known}.{config_file.did_you_mean(name, self.servers)}",
        )

    def server(self, name: str | None = None) -> ServerSettings:
        """The server's settings with its password resolved. Raises ConfigError when the password can't be had."""
        label = self.server_name(name)
        return self._resolved(label, self._password(label), self._scratch_password(label))

    def server_without_password(self, name: str | None = None) -> ServerSettings:
        """The server's settings for work that doesn't connect to it."""
        return self._resolved(self.server_name(name), SecretStr(""), SecretStr(""))

    def scratch(self, name: str | None = None) -> ServerSettings | None:
        """That server's scratch server, with its password; None if it has none. Raises ConfigError."""
        label = self.server_name(name)
        return self._resolved(label, SecretStr(""), self._scratch_password(label)).scratch()

    def password_file(self, name: str) -> Path | None:
        given = self.servers[name].password_file
        if given is None:
            return None
        path = Path(given).expanduser()
        return path if path.is_absolute() or self.path is None else self.path.parent / path

    @property
    def where(self) -> str:
        return f"`{self.path}`" if self.path else "the environment (no rowback.toml was found)"

    def _resolved(self, label: str, password: SecretStr, scratch: SecretStr) -> ServerSettings:
        shared = {key: getattr(self.servers[label], key) for key in ServerOptions.model_fields}
        return ServerSettings(name=label, password=password, scratch_password=scratch, **shared)

    def _scratch_password(self, label: str) -> SecretStr:
        variable = self.servers[label].scratch_password_env
        value = os.environ.get(variable) if variable else ""
        if value is None:
            raise ConfigError(
                f"the environment variable `{variable}` with the password of server `{label}`'s scratch server is not set",
                hint=f"Set it for this process, or point `scratch_password_env` of [servers.{label}] at the right variable.",
            )
        return SecretStr(value)

    def _password(self, label: str) -> SecretStr:
        section = self.servers[label]
        if label in self.passwords:
            return self.passwords[label]
        if section.password_env is not None:
            value = os.environ.get(section.password_env)
            if value is None:
                raise ConfigError(
                    f"the environment variable `{section.password_env}` with the password of server `{label}` is "
                    "not set",
                    hint=f"Set it for this process, or point `password_env` of [servers.{label}] at the right "
                    "variable.",
                )
            return SecretStr(value)
        path = self.password_file(label)
        if path is None:
            return SecretStr("")
        try:
            return SecretStr(path.read_text(encoding="utf-8").split("\n", 1)[0].rstrip("\r"))
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise ConfigError(
                f"can't read the password file `{path}` of server `{label}`: {reason}",
                hint="Create it with the password on its first line, owned by the user that runs rowback, mode 0600.",
            ) from error


def load(config: Path | str | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings. config: the value of `--config`; None looks at `ROWBACK_CONFIG`, then ./rowback.toml, then the
    user's and the system's configuration folder."""
    env = os.environ if environ is None else environ
    path = config_file.find(config, env)
    raw, origin = config_file.read(path) if path is not None else ({}, config_file.Origin(None, ""))
    config_file.refuse_passwords(raw, origin)
    variables, passwords = config_file.overlay(raw, env, _list_keys())
    if path is None and not raw:
        raise ConfigError(
            "no rowback.toml was found",
            hint="Write one with `rowback init`, or name it with --config or ROWBACK_CONFIG. Looked at: "
            f"{config_file.looked_at()}.",
        )
    try:
        document = Document.model_validate(raw)
    except ValidationError as error:
        raise _readable(error, origin, variables) from None
    return Settings(
        path=path.absolute() if path else None,
        archive=document.archive,
        servers=document.servers,
        capture=document.capture,
        passwords=passwords,
    )


def _list_keys() -> frozenset[str]:
    return frozenset(name for name, field in ServerSection.model_fields.items() if "tuple" in str(field.annotation))


def _readable(
    error: ValidationError, origin: config_file.Origin, variables: Mapping[tuple[str, ...], str]
) -> ConfigError:
    """The first problem as one line: where, which key, what is wrong. Never the value of a key that may be secret."""
    problem = error.errors(include_url=False)[0]
    location = tuple(str(part) for part in problem["loc"] if not isinstance(part, int))
    key = ".".join(location)
    where = f"environment variable `{variables[location]}`" if location in variables else origin.at(location)
    if problem["type"] == "extra_forbidden":
        near = config_file.did_you_mean(location[-1], known_keys(location[:-1]))
        return ConfigError(
            f"{where}: unknown key `{key}`", hint=f"Remove it or correct its name.{near} docs/CONFIG.md lists all keys."
        )
    if problem["type"] == "missing":
        return ConfigError(
            f"{where}: the key `{key}` is missing", hint="Add it; docs/CONFIG.md lists all keys with examples."
        )
    message = problem["msg"].removeprefix("Value error, ")
    shown = isinstance(problem["input"], int | float | str) and location[-1:] != (
        "root",
    )  # an address may hold a secret
    given = f", not `{problem['input']}`" if shown else ""
    return ConfigError(
        f"{where}: `{key}` {_lower(message)}{given}",
        hint="Correct the value; docs/CONFIG.md lists all keys with their ranges.",
    )


def _lower(text: str) -> str:
    text = text[:1].lower() + text[1:]
    return text.replace("input should be", "should be")


def known_keys(section: tuple[str, ...]) -> list[str]:
    """The keys that may stand in a section, given as its path: () for the file, ("servers", "shop") for a server."""
    model: type[BaseModel] = Document
    if section[:1] == ("servers",):
        model = ServerSection
    elif section == ("archive",):
        model = ArchiveSettings
    elif section == ("capture",):
        model = CaptureSettings
    elif section == ("archive", "s3"):
        model = S3Settings
    return list(model.model_fields)


def describe(model: type[BaseModel]) -> list[tuple[str, str, str, str]]:
    """(key, default, range, description) of each field, in the file's order: for docs/CONFIG.md and `rowback init`."""
    rows = []
    for name, field in model.model_fields.items():
        limits = [_limit(item) for item in field.metadata]
        default = "required" if field.is_required() else _toml(field.default)
        rows.append((name, default, " and ".join(text for text in limits if text), field.description or ""))
    return rows


def _limit(item: Any) -> str:
    for attribute, text in (("ge", "at least"), ("gt", "more than"), ("le", "at most"), ("lt", "less than")):
        if hasattr(item, attribute):
            return f"{text} {getattr(item, attribute)}"
    return ""


def _toml(value: object) -> str:
    if value is None:
        return "not set"
    if isinstance(value, tuple):
        return "[]"
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)
