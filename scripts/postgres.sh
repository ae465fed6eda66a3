# A PostgreSQL of one story's own: on a free port, in a temporary directory, gone with the story. Sourced after story.sh.
# Needs Debian's package postgresql, or initdb, postgres and psql in the path; a missing one is a failure, not a skip.

POSTGRES_HOME=""
POSTGRES=""
POSTGRES_PORT=$((20000 + RANDOM % 20000))
POSTGRES_URL=""
POSTGRES_BIN="$(find /usr/lib/postgresql -mindepth 2 -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -n 1)"
[ -n "$POSTGRES_BIN" ] || POSTGRES_BIN="$(dirname "$(command -v initdb || echo /nowhere/initdb)")"

# Postgres refuses to be root.
as_postgres() {
    if [ "$(id -u)" -eq 0 ]; then
        setpriv --reuid postgres --regid postgres --clear-groups "$@"
    else
        "$@"
    fi
}

postgres_make() {
    [ -x "$POSTGRES_BIN/postgres" ] || fail "PostgreSQL was not found: apt-get install postgresql"
    POSTGRES_HOME="$(mktemp -d "${TMPDIR:-/tmp}/doorbuster-postgres.XXXXXX")"
    [ "$(id -u)" -ne 0 ] || chown postgres:postgres "$POSTGRES_HOME"
    (cd "$POSTGRES_HOME" && as_postgres "$POSTGRES_BIN/initdb" --auth=trust --username=postgres --encoding=UTF8 --locale=C \
        --no-sync --pgdata "$POSTGRES_HOME/data" >"$STORY_DIRECTORY/initdb.log" 2>&1) || fail "initdb failed"
}

postgres_start() {
    [ -n "$POSTGRES_HOME" ] || postgres_make
    local waited=0
    # By exec, so that the process is the server itself and can be paused and killed by its number.
    (
        cd "$POSTGRES_HOME"
        set -- "$POSTGRES_BIN/postgres" -D "$POSTGRES_HOME/data" -c "port=$POSTGRES_PORT" -c listen_addresses=127.0.0.1 \
            -c "unix_socket_directories=$POSTGRES_HOME"
        [ "$(id -u)" -ne 0 ] || set -- setpriv --reuid postgres --regid postgres --clear-groups "$@"
        exec "$@"
    ) >>"$STORY_DIRECTORY/postgres.log" 2>&1 &
    POSTGRES=$!
    POSTGRES_URL="postgres://postgres@127.0.0.1:$POSTGRES_PORT/shop?sslmode=disable"
    until sql postgres "SELECT 1" >/dev/null 2>&1; do
        sleep 0.1
        waited=$((waited + 1))
        kill -0 "$POSTGRES" 2>/dev/null || fail "PostgreSQL did not start on port $POSTGRES_PORT"
        [ "$waited" -lt 300 ] || fail "PostgreSQL was not ready within 30 s"
    done
    [ "$(sql postgres "SELECT count(*) FROM pg_database WHERE datname = 'shop'")" = 1 ] ||
        sql postgres "CREATE DATABASE shop" >/dev/null
}

# sql DATABASE STATEMENT: rows as lines, fields parted by |.
sql() {
    "$POSTGRES_BIN/psql" --no-psqlrc --quiet --tuples-only --no-align --set=ON_ERROR_STOP=1 --host 127.0.0.1 \
        --port "$POSTGRES_PORT" --username postgres --dbname "$1" --command "$2"
}

# The server and all of its own.
postgres_processes() {
    echo "$POSTGRES"
    ps -o pid= --ppid "$POSTGRES" 2>/dev/null || true
}

postgres_signal() {
    local process
    for process in $(postgres_processes); do
        kill "-$1" "$process" 2>/dev/null || true
    done
}

postgres_kill() {
    [ -n "$POSTGRES" ] || return 0
    postgres_signal KILL
    wait "$POSTGRES" 2>/dev/null || true
    POSTGRES=""
}

postgres_finish() {
    postgres_kill
    [ -z "$POSTGRES_HOME" ] || rm -rf "$POSTGRES_HOME"
}
# How the story ended is `finish`'s to tell.
trap 'status=$?; set +e; postgres_finish; (exit "$status"); finish' EXIT
