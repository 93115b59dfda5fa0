#!/usr/bin/env bash
# What many nodes cost the aggregator: memory for each TLS connection, rounds of a small model with all of them, and how
# long they take to come back after a kill -9. The aggregator is one process, all nodes are another one.
#
#     tests/bench/nodes.sh DIR [--nodes N] [--rounds N]      (2000, 20)
#
# BIN: where the programs are (build/release/bin). Prints KiB a connection (resident memory with all connected, before the
# first round's updates and at the peak, less that of the idle aggregator), seconds of the rounds, seconds until all are back.
set -euo pipefail
usage="usage: tests/bench/nodes.sh DIR [--nodes N] [--rounds N]"
[ $# -ge 1 ] || { echo "$usage" >&2; exit 2; }
dir=$(realpath -m "$1")
bin=$(realpath "${BIN:-$(dirname "$0")/../../build/release/bin}")
cd "$(dirname "$0")/../.."
shift
nodes=2000 rounds=20
while [ $# -gt 1 ]; do
    case $1 in
        --nodes) nodes=$2 ;;
        --rounds) rounds=$2 ;;
        *) echo "$usage" >&2; exit 2 ;;
    esac
    shift 2
done
ulimit -n "$(ulimit -Hn)"  # two or three descriptors a node
mkdir -p "$dir"
export DAYS=3650
if [ ! -e "$dir/certificates/aggregator.crt" ]; then
    examples/certificates.sh "$dir/certificates" authority >/dev/null
    examples/certificates.sh "$dir/certificates" aggregator 127.0.0.1 >/dev/null
fi
seq -f edge-%g "$nodes" | while read -r id; do [ -e "$dir/certificates/$id.crt" ] || echo "$id"; done |
    xargs -r -P 2 -n 1 examples/certificates.sh "$dir/certificates" node >/dev/null
awk 'BEGIN { srand(1); for (i = 0; i < 96; ++i) { c = i % 3; for (j = 0; j < 10; ++j) printf "%.3f,", rand() + (j % 3 == c); print c } }' >"$dir/table.csv"

pids=()
trap 'kill -9 "${pids[@]}" 2>/dev/null || true; wait 2>/dev/null || true' EXIT
fail() { echo "FAILED: $*" >&2; tail -n 5 "$dir"/*.log >&2; exit 1; }
milliseconds() { echo $(($(date +%s%N) / 1000000)); }
seconds() { printf "%d.%d s" $(($1 / 1000)) $(($1 % 1000 / 100)); }
resident() { awk "/^$1:/ {print \$2}" "/proc/$aggregator/status"; }
# The port stays the same from the second start on.
start() {
    : >"$dir/aggregator.log"
    "$bin/dither-aggregator" "$dir/job.toml" --listen "127.0.0.1:${port:-0}" --http "127.0.0.1:${http:-0}" --state "$dir/state" \
        --nodes "$nodes" --tls-cert "$dir/certificates/aggregator.crt" --tls-key "$dir/certificates/aggregator.key" \
        --tls-ca "$dir/certificates/ca.crt" --data "$dir/table.csv" 2>>"$dir/aggregator.log" &
    aggregator=$!
    pids+=("$aggregator")
    until port=$(port_in_log ' on ') && http=$(port_in_log 'http://'); do
        kill -0 "$aggregator" 2>/dev/null || fail "the aggregator has ended"
        sleep 0.05
    done
}
port_in_log() { grep -om1 "$1[0-9.]*:[0-9]*" "$dir/aggregator.log" | grep -o '[0-9]*$'; }
status() { curl -fs -m 5 "http://127.0.0.1:$http/status" | jq -r "$1"; }
wait_until() {  # SECONDS CONDITION...
    local until=$(($(milliseconds) + 1000 * $1))
    shift
    until "$@"; do
        kill -0 "$aggregator" 2>/dev/null || fail "the aggregator has ended while it was waited for: $*"
        [ "$(milliseconds)" -lt "$until" ] || fail "waited too long for: $*"
        sleep 0.1
    done
}
all_connected() { [ "$(status .peers)" = "$nodes" ]; }
reached() { [ "$(status .round)" -ge "$1" ]; }

cat >"$dir/job.toml" <<JOB
job = { name = "nodes", rounds = $rounds }
data = { format = "csv" }
model = { name = "linear" }
federation = { clients = $nodes, cohort = $nodes, rejoin = "120s" }
JOB
rm -rf "$dir/state"
start
idle=$(resident VmRSS)
begun=$(milliseconds)
"$bin/dither-bench-nodes" --aggregator "127.0.0.1:$port" --certificates "$dir/certificates" --table "$dir/table.csv" \
    --nodes "$nodes" >"$dir/nodes.log" 2>&1 &
crowd=$!
pids+=("$crowd")
wait_until 300 all_connected
connected=$(resident VmRSS)
echo "$nodes nodes connected in $(seconds $(($(milliseconds) - begun))): $(((connected - idle) / nodes)) KiB a connection ($idle KiB without any)"
wait_until 300 reached $((rounds / 2))
half=$(milliseconds)
peak=$(resident VmHWM)
echo "at round $((rounds / 2)) after $(seconds $((half - begun))): peak $(((peak - idle) / nodes)) KiB a connection"
kill -9 "$aggregator"
wait "$aggregator" 2>/dev/null || true
killed=$(milliseconds)
start
wait_until 120 all_connected
back=$(($(milliseconds) - killed))
echo "all back $(seconds "$back") after kill -9"
wait "$crowd" || fail "$(<"$dir/nodes.log")"
wait "$aggregator" || fail "the aggregator ended with $?"
tail -n 1 "$dir/nodes.log"
jq -r '"\(.rounds) rounds, \(.bytes_up) bytes up, \(.bytes_down) down"' "$dir/state/summary.json"
[ $(((peak - idle) / nodes)) -le 45 ] || fail "a connection takes $(((peak - idle) / nodes)) KiB, expected at most 45"
[ "$back" -lt 60000 ] || fail "it took them $back ms to come back, expected less than 60000"
