#!/usr/bin/env bash
# Make .venv in the current folder with the exact packages of constraints.txt, from the first working Python 3.11 or
# 3.12. PYTHON=/path/to/python chooses another one. Always starts from nothing, so that a package that was dropped from
# pyproject.toml can't linger; `make venv` calls it only when pyproject.toml or constraints.txt changed.

set -euo pipefail

exec 9>.venv.lock
flock 9

# Whether a command is a Python we can use. A version manager's shim may exist and yet fail, so it is run.
usable() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' >/dev/null 2>&1 </dev/null; }
# Debian and Ubuntu split `venv`'s half off into a package of its own.
complete() { "$1" -c 'import venv, ensurepip' >/dev/null 2>&1 </dev/null; }

python=
incomplete=
for candidate in ${PYTHON:+"$PYTHON"} python3.11 python3.12 python3 /usr/bin/python3.11 /usr/bin/python3.12 \
    "$HOME"/.pyenv/versions/3.1[12].*/bin/python; do
    usable "$candidate" || continue
    if complete "$candidate"; then
        python=$candidate
        break
    fi
    incomplete=${incomplete:-$candidate}
done

if [ -z "$python" ] && [ -n "$incomplete" ]; then
    version=$("$incomplete" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    as_root=()
    [ "$(id -u)" -eq 0 ] || as_root=(sudo -n)
    install=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends)
    if command -v apt-get >/dev/null && { [ "$(id -u)" -eq 0 ] || sudo -n true 2>/dev/null; }; then
        echo "venv: installing python$version-venv through apt"
        "${install[@]}" "python$version-venv" >/dev/null 2>&1 </dev/null || {
            "${as_root[@]}" apt-get -qq update </dev/null
            "${install[@]}" "python$version-venv" </dev/null >/dev/null
        }
    fi
    if complete "$incomplete"; then
        python=$incomplete
    else
        printf 'venv: `%s` can not make virtual environments\nHINT: as root: apt-get install python%s-venv\n' \
            "$incomplete" "$version" >&2
        exit 1
    fi
fi
if [ -z "$python" ]; then
    printf 'venv: no Python 3.11 or 3.12 found\nHINT: install python3.11 and python3.11-venv (or 3.12), or set PYTHON=/path/to/python\n' >&2
    exit 1
fi

echo "venv: building .venv with $("$python" --version) from $(command -v "$python") (about a minute)"
rm -rf .venv
"$python" -m venv .venv
.venv/bin/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[dev]' </dev/null
