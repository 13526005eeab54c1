# Sourced by the scripts here: where things are, and how the extension gets into a private place.
# Nothing is ever installed into the system: the server finds the extension in a staged install.

set -euo pipefail
export LC_ALL=C.UTF-8
umask 022

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

say() { printf '== %s\n' "$*"; }
fail() { printf 'pg_herald: %s\n' "$*" >&2; exit 1; }

# Products go to build/, or to a temporary directory in a checkout that is not ours to write.
if [ -z "${HERALD_BUILD:-}" ]; then
    HERALD_BUILD=$top/build
    if ! mkdir -p "$HERALD_BUILD" 2>/dev/null || [ ! -w "$HERALD_BUILD" ]; then
        HERALD_BUILD=$(mktemp -d /tmp/pg_herald_build.XXXXXX)
        say "$top/build is not writable, building in $HERALD_BUILD"
    fi
    export HERALD_BUILD
fi

# A server refuses to run as root, so root's one runs as postgres, or else nobody.
server_user=$(id -un)
as_server_user=()
if [ "$(id -u)" = 0 ]; then
    server_user=postgres
    id postgres >/dev/null 2>&1 || server_user=nobody
    as_server_user=(setpriv "--reuid=$server_user" "--regid=$(id -g "$server_user")" --init-groups)
fi

# The mirror of Debian that apt takes packages of the running release from; nothing where there is none.
debian_mirror() {
    apt-get indextargets --format '$(SITE) $(RELEASE)' 'Created-By: Packages' 2>/dev/null |
        awk -v "release=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)" '$2 == release { print $1; exit }' || :
}

find_postgres() {
    PG_CONFIG=$(command -v "${PG_CONFIG:-pg_config}") ||
        fail "no pg_config found: run scripts/setup, or set PG_CONFIG"
    export PG_CONFIG
    bindir=$("$PG_CONFIG" --bindir)
    pgxs_dir=$(dirname "$("$PG_CONFIG" --pgxs)")/..
    major=$("$PG_CONFIG" --version | sed 's/^PostgreSQL \([0-9]*\).*/\1/')
}

# make_work_dir sets work: a new directory that the server's user can reach and owns. It is in
# build/ where that is open to that user and short enough for a socket's path (107 bytes).
make_work_dir() {
    work=$(mktemp -d "$HERALD_BUILD/run.XXXXXX")
    chmod 755 "$work"
    if [ ${#work} -gt 70 ] || ! "${as_server_user[@]}" test -x "$work"; then
        rmdir "$work"
        work=$(mktemp -d /tmp/pg_herald.XXXXXX)
        chmod 755 "$work"
    fi
    [ "$(id -u)" != 0 ] || chown "$server_user" "$work"
}

# Processes that are just ending may still write there.
remove_work_dir() {
    local attempt
    for attempt in {1..25}; do
        ! rm -rf "$work" 2>/dev/null || return 0
        sleep 0.2
    done
    echo "pg_herald: can't remove $work" >&2
}

# build_extension DIR [MAKE_ARGUMENT]...: an out-of-tree build, so that it doesn't disturb, and
# isn't disturbed by, the objects of a plain make.
build_extension() {
    mkdir -p "$1"
    make --no-print-directory -C "$1" -f "$top/Makefile" -j"$(nproc)" with_llvm=no \
        PG_CONFIG="$PG_CONFIG" "${@:2}"
}

# Up to version 17 only Debian's server can be told of another place to look for extensions.
told_by_destdir() { "$bindir/postgres" --describe-config | grep -aq '^extension_destdir'; }

# copy_server STAGE: any other one runs from a copy of its programs and files in the stage, since it finds these from
# where its program is. Hard links, where that is possible.
copy_server() {
    local path program
    if [ "$major" -ge 18 ] || told_by_destdir; then return 0; fi
    mkdir -p "$1$bindir"
    for program in "$bindir"/{postgres,initdb,psql,createdb,dropdb,createuser,dropuser,vacuumdb,reindexdb,pg_*}; do
        [ ! -f "$program" ] || cp -al "$program" "$1$bindir/" 2>/dev/null || cp -a "$program" "$1$bindir/"
    done
    for path in "$("$PG_CONFIG" --pkglibdir)" "$("$PG_CONFIG" --sharedir)"; do
        mkdir -p "$1$path"
        cp -al "$path/." "$1$path/" 2>/dev/null || cp -a "$path/." "$1$path/"
    done
}

# use_stage sets HERALD_STAGE: the install given from outside, else one made here; and bindir, where the stage has a
# server.
use_stage() {
    make_stage
    [ ! -x "$HERALD_STAGE$bindir/postgres" ] || bindir=$HERALD_STAGE$bindir
}

make_stage() {
    [ -z "${HERALD_STAGE:-}" ] || return 0
    copy_server "$work/stage"
    say "building pg_herald for $("$PG_CONFIG" --version)"
    if ! build_extension "$HERALD_BUILD/server-$major" install DESTDIR="$work/stage" \
        > "$work/build.log" 2>&1; then
        tail -n 60 "$work/build.log"
        fail "the build failed"
    fi
    export HERALD_STAGE=$work/stage
}

# staged_settings STAGE: what postgresql.conf needs to find the extension installed there.
staged_settings() {
    printf "shared_preload_libraries = 'pg_herald'\n"
    [ "$bindir" != "$1$("$PG_CONFIG" --bindir)" ] || return 0
    printf "dynamic_library_path = '%s:\$libdir'\n" "$1$("$PG_CONFIG" --pkglibdir)"
    if [ "$major" -ge 18 ]; then
        printf "extension_control_path = '%s:\$system'\n" "$1$("$PG_CONFIG" --sharedir)"
    else
        printf "extension_destdir = '%s'\n" "$1"
    fi
}

# result FILES PASSED FAILED: how a test suite reports, to scripts/check or to who runs it alone.
# A suite that has test files must have run tests.
result() {
    local failed=$3
    [ "$1" = 0 ] || [ $(($2 + $3)) -gt 0 ] || failed=1
    echo "$1 $2 $failed" > "${HERALD_RESULT:-/dev/null}"
    say "$(basename "$0"): $2 passed, $failed failed"
    [ "$failed" = 0 ]
}

# run_regress PROGRAM INPUTDIR TEST_FILE...: a run of pg_regress or of its isolation sister. What
# didn't report success has failed, whatever the program says.
run_regress() {
    local out=$HERALD_BUILD/$(basename "$0") status=0 names passed
    find_postgres
    mapfile -t names < <(printf '%s\n' "${@:3}" | sed 's|.*/||; s|\.[^.]*$||')
    rm -rf "$out"
    mkdir -p "$out"
    "$top/scripts/server" "$pgxs_dir/test/$1" --inputdir="$2" --outputdir="$out" \
        --bindir="$bindir" --dbname=regression --load-extension=pg_herald "${names[@]}" \
        > "$out/output" 2>&1 || status=$?
    cat "$out/output"
    # up to 15 "test name ... ok  12 ms", later "ok 1  - name  12 ms"
    passed=$(grep -cE '^(test .* \.\.\. ok|ok [0-9]+ )' "$out/output" || :)
    [ ! -s "$out/regression.diffs" ] || head -n 400 "$out/regression.diffs"
    if [ "$passed" = ${#names[@]} ] && [ "$status" != 0 ]; then
        passed=$((passed - 1))
    fi
    result ${#names[@]} "$passed" $((${#names[@]} - passed))
}
