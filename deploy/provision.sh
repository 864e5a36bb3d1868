#!/usr/bin/env bash
# Provide the real servers and tools that the tests and the demo run against, without starting any of them:
#
#   MySQL >= 8         one found on PATH, else unpacked privately into the cache (Debian, Ubuntu; no root needed)
#   MariaDB >= 10.5    through apt (needs root or sudo without a password)
#   mydumper/myloader  through apt (the same)
#
# and, for each server, an initialised data directory that a throw-away server starts from in under a second.
#
# Idempotent, safe to run twice at once, and quick when there is nothing to do. Everything it keeps is below the cache
# folder (ROWBACK_CACHE, else XDG_CACHE_HOME/rowback, else ~/.cache/rowback); deploy/testservers.py reads what was
# found from `servers.env` there. Delete the folder to start again or to get a newer MySQL.
#
# What can't be provided is named on stderr with the command that mends it. Tests that need it then skip; with CI set
# in the environment the script exits 1 instead.

set -euo pipefail
umask 077

CACHE=${ROWBACK_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/rowback}
mkdir -p "$CACHE"
CACHE=$(cd "$CACHE" && pwd -P)

say() { printf 'provision: %s\n' "$*"; }
missing=()
lacking() { # lacking WHAT HINT: note it, go on with the rest
    missing+=("$1")
    printf 'provision: %s is missing\nHINT: %s\n' "$1" "$2" >&2
}

# One run at a time; the second waits and then finds everything in place.
exec 9>"$CACHE/lock"
flock 9
WORK=$(mktemp -d "$CACHE/work.XXXXXX") # in the cache, so that the final rename stays on one file system
PLAIN=$(mktemp -d /tmp/rowback-provision.XXXXXX) # mariadb-install-db can't take a path with a space
trap 'rm -rf "$WORK" "$PLAIN"' EXIT

distribution=$(. /etc/os-release 2>/dev/null && echo "${ID:-} ${ID_LIKE:-}" || true)

# The account a server runs as; mysqld refuses to run as root unless told.
run_as=()
[ "$(id -u)" -ne 0 ] || run_as=(--user=root)

facts="$WORK/servers.env"
: >"$facts"
fact() { printf '%s=%s\n' "$1" "$2" >>"$facts"; }

# --- MySQL ------------------------------------------------------------------------------------------------------------

# The version of a MySQL program, or nothing if it isn't MySQL >= 8. MariaDB installs programs under MySQL's names: its
# server says "10.11.19-MariaDB", its clients "Ver 15.1 Distrib 10.11.19-MariaDB" or only "Ver 3.5".
mysql_version() {
    local text
    text=$("$@" --no-defaults --version 2>/dev/null </dev/null) || return 0
    case $text in *MariaDB*) return 0 ;; esac
    sed -nE 's/.*Ver ([89]|[1-9][0-9]+)(\.[0-9]+\.[0-9]+).*/\1\2/p' <<<"$text" | head -n 1
}

# An initialised data directory, made once for each server version. Root has no password and may come from loopback.
mysql_template() { # mysql_template VERSION COMMAND...
    local version=$1 target="$CACHE/templates/mysql-$1"
    shift
    if [ ! -d "$target" ]; then
        say "initialising a data directory for MySQL $version"
        rm -rf "$WORK/data"
        mkdir -p "$CACHE/templates" "$WORK/data"
        if ! "$@" --initialize-insecure --datadir="$WORK/data" "${run_as[@]}" --disable-log-bin --secure-file-priv= \
            --innodb-redo-log-capacity=32M >"$WORK/initialize.log" 2>&1 </dev/null 9>&-; then
            tail -n 5 "$WORK/initialize.log" >&2
            return 1
        fi
        rm -f "$WORK/data/auto.cnf" # holds the server_uuid: each copy makes its own at its first start
        mv -T "$WORK/data" "$target"
    fi
}

use_path_mysql() {
    local server version program
    # /usr/sbin is often not on a user's PATH
    server=$(PATH="$PATH:/usr/local/sbin:/usr/sbin" command -v mysqld) || return 1
    version=$(mysql_version "$server")
    [ -n "$version" ] || return 1
    for program in mysql mysqlbinlog mysqldump; do
        command -v "$program" >/dev/null && [ -n "$(mysql_version "$program")" ] || return 1
    done
    # The proof: a profile of AppArmor may keep a packaged mysqld from any other data directory.
    mysql_template "$version" "$server" --no-defaults || return 1
    fact MYSQL_VERSION "$version"
    fact MYSQL_SERVER "$server"
    for program in mysql mysqlbinlog mysqldump; do
        fact "MYSQL_TOOL_$program" "$(command -v "$program")"
    done
    fact MYSQL_TEMPLATE "$CACHE/templates/mysql-$version"
    say "MySQL $version from $server"
}

# An unpacked tree runs through its own dynamic loader and libraries, so it works whatever the machine's libc is.
tree_loader() { # tree_loader ROOT: the loader's path
    local loader
    for loader in "$1"/usr/lib/*/ld-linux-*.so.* "$1"/lib/*/ld-linux-*.so.*; do
        [ -x "$loader" ] && { echo "$loader"; return 0; }
    done
    return 1
}

use_unpacked_mysql() { # use_unpacked_mysql ROOT
    local root=$1 loader libraries version server program
    loader=$(tree_loader "$root") || return 1
    libraries=$(dirname "$loader")
    server="$root/usr/sbin/mysqld"
    version=$(mysql_version "$loader" --library-path "$libraries" "$server")
    [ -n "$version" ] || return 1
    mysql_template "$version" "$loader" --library-path "$libraries" "$server" --no-defaults --basedir="$root/usr" \
        --lc-messages-dir="$root/usr/share/mysql" --plugin-dir="$root/usr/lib/mysql/plugin" || return 1
    fact MYSQL_VERSION "$version"
    fact MYSQL_SERVER "$server"
    fact MYSQL_ROOT "$root"
    fact MYSQL_LOADER "$loader"
    fact MYSQL_LIBRARIES "$libraries"
    for program in mysql mysqlbinlog mysqldump; do
        fact "MYSQL_TOOL_$program" "$root/usr/bin/$program"
    done
    fact MYSQL_TEMPLATE "$CACHE/templates/mysql-$version"
    say "MySQL $version from $root"
}

# A private apt: its own lists, cache and (empty) package database, so the machine's packages are neither read nor
# changed. Passed with -c, which is read after /etc/apt/apt.conf.d and therefore wins over it.
private_apt() { # private_apt VERB...
    apt-get -c "$WORK/apt.conf" -qq "$@" </dev/null 9>&-
}

private_apt_setup() { # private_apt_setup [MIRROR]: Debian's unstable suite from MIRROR, else the machine's own sources
    rm -rf "$WORK/apt"
    mkdir -p "$WORK"/apt/{state/lists/partial,cache/archives/partial}
    : >"$WORK/apt/status"
    cat >"$WORK/apt.conf" <<CONF
Dir::State "$WORK/apt/state";
Dir::State::lists "$WORK/apt/state/lists";
Dir::State::status "$WORK/apt/status";
Dir::Cache "$WORK/apt/cache";
Dir::Cache::archives "$WORK/apt/cache/archives";
Dir::Etc::preferences "-";
Dir::Etc::preferencesparts "-";
Dir::Log "$WORK/apt";
APT::Sandbox::User "";
APT::Install-Recommends "false";
APT::Get::Assume-Yes "true";
Acquire::Languages "none";
Acquire::Retries "3";
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
CONF
    if [ $# -gt 0 ]; then
        local keyring
        for keyring in /usr/share/keyrings/debian-archive-keyring.{pgp,gpg}; do [ -r "$keyring" ] && break; done
        echo "deb [signed-by=$keyring] $1 sid main" >"$WORK/apt/sources.list"
        cat >>"$WORK/apt.conf" <<CONF
Dir::Etc::sourcelist "$WORK/apt/sources.list";
Dir::Etc::sourceparts "-";
CONF
    fi
}

# Mirrors of the main archive from the machine's own configuration, downloaded lists or not.
own_mirrors() {
    apt-get -o APT::Get::IndexTargets::OnlyPresent=false indextargets --no-release-info \
        --format '$(CREATED_BY) $(REPO_URI)' 2>/dev/null | awk '$1 == "Packages" && $2 !~ /security/ { print $2 }' | sort -u
}

unpack_mysql() { # downloads with the private apt as set up, prints the new root
    local packages package deb root
    private_apt update >"$WORK/apt.log" 2>&1 || { tail -n 5 "$WORK/apt.log" >&2; return 1; }
    # Debian calls them mysql-server-core, Ubuntu mysql-server-core-8.0 and so on: the highest wins.
    package=$(apt-cache -c "$WORK/apt.conf" pkgnames mysql-server-core 2>/dev/null | sort -V | tail -n 1)
    [ -n "$package" ] || { echo "no mysql-server-core package in this suite" >&2; return 1; }
    packages=("$package" "${package/server/client}")
    private_apt install --download-only "${packages[@]}" >"$WORK/apt.log" 2>&1 || { tail -n 5 "$WORK/apt.log" >&2; return 1; }
    rm -rf "$WORK/root"
    mkdir "$WORK/root"
    for deb in "$WORK"/apt/cache/archives/*.deb; do
        case ${deb##*/} in perl* | libperl*) continue ;; esac # for mysqld_multi and the like
        dpkg-deb -x "$deb" "$WORK/root" || return 1
    done
    rm -rf "$WORK"/root/usr/share/{doc,man,locale,lintian} "$WORK/apt"
    root="$CACHE/mysql/$package-$(date -u +%Y%m%d%H%M%S)"
    mkdir -p "$CACHE/mysql"
    mv -T "$WORK/root" "$root"
    echo "$root"
}

provide_mysql() {
    local root mirror
    use_path_mysql && return 0
    for root in "$CACHE"/mysql/*/; do # the newest last
        [ -d "$root" ] && use_unpacked_mysql "${root%/}" && return 0
    done
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || return 1
    case " $distribution " in
    *" ubuntu "*)
        say "unpacking MySQL from this machine's own apt sources into $CACHE/mysql"
        private_apt_setup
        root=$(unpack_mysql) && use_unpacked_mysql "$root" && return 0
        ;;
    *" debian "*)
        for mirror in $(own_mirrors); do
            say "unpacking MySQL from Debian's unstable suite into $CACHE/mysql"
            private_apt_setup "$mirror"
            root=$(unpack_mysql) && use_unpacked_mysql "$root" && return 0
        done
        ;;
    esac
    return 1
}

# --- MariaDB and mydumper ---------------------------------------------------------------------------------------------

as_root=()
if [ "$(id -u)" -ne 0 ]; then as_root=(sudo -n); fi
may_install() {
    command -v apt-get >/dev/null || return 1
    [ "$(id -u)" -eq 0 ] || sudo -n true 2>/dev/null
}

# apt_install PACKAGE...: never removes a package, and updates the lists only if it doesn't work without. The packages
# named below hold programs only: the ones that start a service and own /var/lib/mysql (mariadb-server) are not needed.
apt_install() {
    local install=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 install --yes
        --no-install-recommends --no-remove)
    say "installing $* through apt"
    "${as_root[@]}" "${install[@]}" "$@" >"$WORK/apt-install.log" 2>&1 </dev/null 9>&- && return 0
    "${as_root[@]}" apt-get -qq update >"$WORK/apt-install.log" 2>&1 </dev/null 9>&- || true
    "${as_root[@]}" "${install[@]}" "$@" >"$WORK/apt-install.log" 2>&1 </dev/null 9>&- && return 0
    tail -n 5 "$WORK/apt-install.log" >&2
    return 1
}

find_program() { PATH="$PATH:/usr/local/sbin:/usr/sbin" command -v "$1"; }

mariadb_programs=(mariadbd mariadb-install-db mariadb mariadb-binlog mariadb-dump)
have_mariadb() {
    local program
    for program in "${mariadb_programs[@]}"; do find_program "$program" >/dev/null || return 1; done
}

provide_mariadb() {
    local server version target
    have_mariadb || { may_install && apt_install mariadb-server-core mariadb-client; } || return 1
    have_mariadb || return 1
    server=$(find_program mariadbd)
    version=$("$server" --no-defaults --version 2>/dev/null | sed -nE 's/.*Ver ([0-9]+\.[0-9]+\.[0-9]+)-MariaDB.*/\1/p')
    [ -n "$version" ] || return 1
    target="$CACHE/templates/mariadb-$version"
    if [ ! -d "$target" ]; then
        say "initialising a data directory for MariaDB $version"
        mkdir -p "$CACHE/templates" "$PLAIN/data"
        "$(find_program mariadb-install-db)" --no-defaults --datadir="$PLAIN/data" "${run_as[@]}" --skip-test-db \
            --auth-root-authentication-method=normal --skip-name-resolve --innodb-log-file-size=32M \
            >"$WORK/initialize.log" 2>&1 </dev/null 9>&- || { tail -n 5 "$WORK/initialize.log" >&2; return 1; }
        # Anonymous accounts for localhost would win over an account made for any host.
        "$server" --no-defaults --bootstrap --datadir="$PLAIN/data" "${run_as[@]}" --innodb-log-file-size=32M \
            >"$WORK/initialize.log" 2>&1 9>&- <<<"DELETE FROM mysql.global_priv WHERE User='' OR Host NOT IN ('localhost');" \
            || { tail -n 5 "$WORK/initialize.log" >&2; return 1; }
        rm -rf "$WORK/data"
        cp -a "$PLAIN/data" "$WORK/data" && mv -T "$WORK/data" "$target" || return 1
    fi
    fact MARIADB_VERSION "$version"
    fact MARIADB_SERVER "$server"
    fact MARIADB_TOOL_mysql "$(find_program mariadb)"
    fact MARIADB_TOOL_mysqlbinlog "$(find_program mariadb-binlog)"
    fact MARIADB_TOOL_mysqldump "$(find_program mariadb-dump)"
    fact MARIADB_TEMPLATE "$target"
    say "MariaDB $version from $server"
}

provide_mydumper() {
    local version
    if ! command -v mydumper >/dev/null || ! command -v myloader >/dev/null; then
        { may_install && apt_install mydumper; } || return 1
    fi
    version=$(mydumper --version 2>/dev/null | sed -nE 's/^mydumper v?([0-9]+\.[0-9]+\.[0-9]+).*/\1/p' | head -n 1)
    fact MYDUMPER_VERSION "$version"
    fact MYDUMPER "$(command -v mydumper)"
    fact MYLOADER "$(command -v myloader)"
    say "mydumper ${version:-(unknown version)} from $(command -v mydumper)"
}

# --- all together -----------------------------------------------------------------------------------------------------

provide_mysql || lacking "MySQL >= 8" "put mysqld, mysql, mysqlbinlog and mysqldump of MySQL 8 or later on PATH, and run this again"
provide_mariadb || lacking "MariaDB" "as root: apt-get install mariadb-server-core mariadb-client, and run this again"
provide_mydumper || lacking "mydumper" "as root: apt-get install mydumper, and run this again"

mv -T "$facts" "$CACHE/servers.env" # whole or not at all

if [ "${#missing[@]}" -gt 0 ] && [ -n "${CI:-}" ]; then
    exit 1
fi
