"""The `rowback` command: parses, calls one operation, renders its result; errors become two lines and an exit status.

    ERROR [code] what is wrong
    HINT: the next step

Promises: results go to stdout, everything else to stderr; with `--format json` errors are JSON too; the exit status is the
error class's own (recovery/errors.py), 2 for arguments, 1 for the unexpected, 130 after Ctrl-C; no traceback without
--debug; a reader that closes the pipe is no error.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import traceback
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import typer

from recovery.cli_commands import Commands
from recovery.cli_globals import Globals
from recovery.errors import RowbackError, StoreFull

INTERRUPTED = 130
USAGE = 2

app = typer.Typer(
    name="rowback",
    cls=Commands,
    help="Backs up MySQL and MariaDB, and gives any row, table or database back as it was at any committed "
    "transaction.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with `rowback init`. Every command has its own --help with examples.",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"rowback {installed_version()}")
        raise typer.Exit


@app.callback()
def options(
    ctx: typer.Context,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="rowback.toml to use.", show_default=False)
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(
            "--server", metavar="NAME", help="Server section; not needed if there is one.", show_default=False
        ),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    print_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print Rowback's version.")
    ] = False,
) -> None:
    """Options for every command; --config and --server may also stand after it."""
    ctx.obj = Globals(config, server, debug)


def installed_version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # brings the e-mail parser, and is asked for rarely

    try:
        return version("rowback")
    except PackageNotFoundError:
        return "0 (not installed)"


def main(argv: Sequence[str] | None = None) -> None:
    """The console script: never returns."""
    # What a command imports lives to its end: looking it through again and again was a tenth of a short command's time.
    gc.set_threshold(50_000, 20, 100)
    sys.exit(run(list(sys.argv[1:] if argv is None else argv)))


def run(argv: list[str]) -> int:
    """One command line to its exit status."""
    as_json = _wants_json(argv)
    debug = "--debug" in argv
    try:
        status = app(args=argv, prog_name="rowback", standalone_mode=False)
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except RowbackError as error:
        return _report(error, as_json=as_json, debug=debug)
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        _silence_stdout()
        return 0
    except Exception as error:  # noqa: BLE001  (the last line of defence)
        return _unexpected(error, as_json=as_json, debug=debug)


def _wants_json(argv: Sequence[str]) -> bool:
    """Read from the raw arguments, for they may be what is wrong."""
    return any(
        word == "--format=json" or (word == "--format" and following == "json")
        for word, following in pairwise([*argv, ""])
    )


def _report(error: RowbackError, *, as_json: bool, debug: bool) -> int:
    _print_error(error.code, error.message, error.hint, as_json=as_json)
    if debug:
        traceback.print_exception(error)
    return error.exit_status


def _unexpected(error: Exception, *, as_json: bool, debug: bool) -> int:
    if hasattr(error, "format_message"):  # the argument parser's own errors, whichever parser typer brings
        if type(error).__name__ == "NoArgsIsHelpError":  # `rowback` alone, or `rowback index`: its message is the help
            print(error.format_message(), file=sys.stderr)
            return USAGE
        hint = "See `rowback --help`, and `rowback COMMAND --help` for its examples."
        _print_error("usage", _sentence(error.format_message()), hint, as_json=as_json)
        return USAGE
    if isinstance(error, OSError) and error.errno is not None:
        return _local_file_error(error, as_json=as_json, debug=debug)
    message = f"unexpected {type(error).__name__}: {error}"
    hint = "This is a bug: please report it with the output of the same command under --debug."
    _print_error("unexpected", message, hint, as_json=as_json)
    if debug:
        traceback.print_exception(error)
    return 1


def _local_file_error(error: OSError, *, as_json: bool, debug: bool) -> int:
    """A file or folder of this machine that the user named, or a full disk."""
    full = error.errno in (28, 122)  # ENOSPC, EDQUOT
    name = f"`{error.filename}`: " if error.filename else ""
    code = StoreFull.code if full else "file"
    hint = "Free some space, then run it again." if full else "Check the path, its owner and its mode."
    _print_error(code, f"{name}{(error.strerror or str(error)).lower()}", hint, as_json=as_json)
    if debug:
        traceback.print_exception(error)
    return StoreFull.exit_status if full else 1


def _print_error(code: str, message: str, hint: str, *, as_json: bool) -> None:
    if as_json:
        text = json.dumps({"code": code, "error": message, "hint": hint}, ensure_ascii=False)
    else:
        text = f"ERROR [{code}] {' '.join(message.split())}" + (f"\nHINT: {' '.join(hint.split())}" if hint else "")
    print(text, file=sys.stderr)


def _sentence(text: str) -> str:
    text = text.strip().rstrip(".")
    return text[:1].lower() + text[1:]


def _silence_stdout() -> None:
    """Python flushes stdout at exit; with the pipe closed that would print a second error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
