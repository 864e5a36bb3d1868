"""The direction of imports: dataflow -> recovery <- flows, and the archive knows nothing of what stands on it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("recovery", "dataflow", "flows")
TOP_LEVEL = {*PACKAGES, "deploy", "tests"}
FORBIDDEN = {
    "recovery": {"dataflow", "flows", "bytewax", "prefect", "pymysqlreplication"},
    "dataflow": {"flows", "prefect"},
    "flows": {"dataflow", "bytewax", "pymysqlreplication"},
}
ARCHIVE_MAY_IMPORT = {"errors", "schema", "config", "archive", "failpoint", "lowercase"}


def modules(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found
    return found


def imports(path: Path) -> Iterator[str]:
    """Every imported module's full name, function-level imports and `importlib.import_module("...")` included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the direction"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            assert isinstance(node.args[0], ast.Constant), f"{path}: an import by a computed name"
            yield str(node.args[0].value)


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_in_one_direction(package: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules(package)
        for name in imports(path)
        if name.split(".")[0] in FORBIDDEN[package] | {"tests", "deploy"}
    ]
    assert not wrong


def test_the_archive_imports_only_what_lies_below_it() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules("recovery/archive")
        for name in imports(path)
        if name.startswith("recovery.") and name.split(".")[1] not in ARCHIVE_MAY_IMPORT
    ]
    assert not wrong


def test_only_surfaces_print_and_exit() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno} calls {ast.unparse(node.func)}"
        for path in modules("recovery")
        if not path.name.startswith("cli")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "sys.exit", "exit", "os._exit")
    ]
    assert not wrong


def test_surfaces_are_imported_by_surfaces_only() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for package in PACKAGES
        for path in modules(package)
        if not path.name.startswith("cli")
        for name in imports(path)
        if name.startswith("recovery.cli")
    ]
    assert not wrong


def test_no_module_is_named_like_a_top_level_package() -> None:
    """flows/recovery.py would break Prefect's path entrypoints, also for its siblings."""
    names = {
        path: path.stem if path.name != "__init__.py" else path.parent.name
        for package in PACKAGES
        for path in modules(package)
        if path.parent.name not in PACKAGES or path.name != "__init__.py" or path.parent.parent != ROOT
    }
    assert not [str(path.relative_to(ROOT)) for path, name in names.items() if name in TOP_LEVEL]


def test_tests_are_flat() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py"))
