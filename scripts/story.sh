# What the end-to-end stories share: an engine of their own on a free port with a directory of its own, and a way to ask
# it. Sourced, not run. Needs bash, and $DOORBUSTER, the binary. curl is used where it is, but not needed.

set -euo pipefail

: "${DOORBUSTER:?set DOORBUSTER to the path of the doorbuster binary}"

STORY_DIRECTORY="$(mktemp -d "${TMPDIR:-/tmp}/doorbuster-story.XXXXXX")"
DATA="$STORY_DIRECTORY/data"
LOG="$STORY_DIRECTORY/engine.log"
PORT=$((20000 + RANDOM % 20000))
URL="http://127.0.0.1:$PORT"
export DOORBUSTER_ADMIN_KEY="story-admin-key-0123456789abcdef"
ENGINE=""

finish() {
    local status=$?
    if [ -n "$ENGINE" ]; then
        kill -9 "$ENGINE" 2>/dev/null || true
    fi
    if [ "$status" -ne 0 ]; then
        echo "the story failed; the engine's last words:" >&2
        tail -n 30 "$LOG" >&2 || true
        echo "its directory is kept: $STORY_DIRECTORY" >&2
    else
        rm -rf "$STORY_DIRECTORY"
    fi
}
trap finish EXIT

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# Starts the engine and waits until it is ready. A port in use is exchanged for another.
engine_start() {
    local tries=0 waited
    while :; do
        "$DOORBUSTER" serve --data "$DATA" --listen "127.0.0.1:$PORT" "$@" >>"$LOG" 2>&1 &
        ENGINE=$!
        waited=0
        while kill -0 "$ENGINE" 2>/dev/null; do
            if [ "$(status GET /readyz)" = 200 ]; then
                return 0
            fi
            sleep 0.1
            waited=$((waited + 1))
            [ "$waited" -lt 600 ] || fail "the engine was not ready within a minute"
        done
        wait "$ENGINE" || true
        tries=$((tries + 1))
        [ "$tries" -lt 5 ] || fail "the engine did not start"
        PORT=$((20000 + RANDOM % 20000))
        URL="http://127.0.0.1:$PORT"
    done
}

engine_kill() {
    kill -9 "$ENGINE"
    wait "$ENGINE" 2>/dev/null || true
    ENGINE=""
}

# SIGTERM drains; the exit code is part of the promise.
engine_stop() {
    local code=0
    kill -TERM "$ENGINE"
    wait "$ENGINE" || code=$?
    ENGINE=""
    [ "$code" -eq 0 ] || fail "after SIGTERM the engine exited with $code, not 0"
}

# ask METHOD PATH [BODY] [HEADER…]: prints the status on the first line, then the body.
ask() {
    local method=$1 path=$2 body=${3:-} header
    shift 2
    if [ $# -gt 0 ]; then shift; fi
    local length=${#body}
    exec 9<>"/dev/tcp/127.0.0.1/$PORT" || return 1
    {
        printf '%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n' "$method" "$path"
        for header in "$@"; do printf '%s\r\n' "$header"; done
        if [ "$length" -gt 0 ]; then
            printf 'Content-Type: application/json\r\nContent-Length: %s\r\n' "$length"
        elif [ "$method" != GET ]; then
            printf 'Content-Length: 0\r\n'
        fi
        printf '\r\n%s' "$body"
    } >&9
    local line code=""
    while IFS= read -r -t 15 line <&9; do
        line=${line%$'\r'}
        if [ -z "$code" ]; then
            code=${line#* }
            code=${code%% *}
        fi
        [ -n "$line" ] || break
    done
    printf '%s\n' "$code"
    cat <&9
    exec 9>&-
}

# Only the status; 000 where nobody listens.
status() {
    local reply
    reply=$(ask "$@" 2>/dev/null) || reply=000
    echo "${reply%%$'\n'*}"
}

# field NAME: the first text or number of that name in the JSON on standard input.
field() {
    # No `head`: it would end the pipe early, which pipefail takes for an error.
    grep -o "\"$1\":\(\"[^\"]*\"\|[0-9-]*\)" | sed -n '1{s/^[^:]*://; s/"//g; p}'
}

# expect WHAT WANTED SEEN
expect() {
    [ "$2" = "$3" ] || fail "$1: expected $2, saw $3"
}

verify() {
    "$DOORBUSTER" verify --data "$DATA" >>"$LOG" 2>&1 || fail "verify found the laws broken"
}
