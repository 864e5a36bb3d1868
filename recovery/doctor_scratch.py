"""Whether the scratch server is what a replay needs: there, empty, and like the source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from recovery.checks import Check, advice, fail, ok
from recovery.config import ServerSettings
from recovery.errors import RowbackError
from recovery.scratch_server import DECISIVE, kind_of, scratch_server
from recovery.source import fetch, server_info

_NAME: Final = "scratch server"
_WHY: Final = "statements whose effect on rows can't be computed are replayed there"


def scratch_check(settings: ServerSettings, flavor: str, version: str, variables: Mapping[str, str]) -> Check:
    """flavor, version, variables: the source's. The server is used for a moment, as by a replay."""
    where = f"{settings.host}:{settings.port}"
    try:
        with scratch_server(settings) as connection:
            info = server_info(connection)
            own = {str(name): str(value) for name, value in fetch(connection, "SHOW GLOBAL VARIABLES")}
    except RowbackError as error:
        return fail(_NAME, error.message, _WHY, error.hint)
    found, wanted = kind_of(info.flavor, info.version), kind_of(flavor, version)
    if found != wanted:
        fix = f"point `scratch_host` to an empty {' '.join(wanted)} server"
        return fail(_NAME, f"`{where}` is {' '.join(found)}, the source is {flavor} {version}", _WHY, fix)
    other = [name for name in DECISIVE if name in own and own[name] != variables.get(name, own[name])]
    if other:
        wrong = "; ".join(f"{name} is {own[name]}, on the source {variables[name]}" for name in other)
        lines = ", ".join(f"{name} = {variables[name]}" for name in other)
        return advice(_NAME, f"`{where}`: {wrong}", f"{_WHY}, and may give something else there", f"my.cnf: {lines}")
    return ok(_NAME, f"`{where}` is empty, {' '.join(found)} like the source")
