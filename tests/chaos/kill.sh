#!/usr/bin/env bash
# kill -9 of the aggregator and of nodes at random moments of one run: the final model must be the undisturbed run's, bit
# for bit, and the aggregator must be back in less than 2 s. Four nodes on loopback, over TLS, on Fashion-MNIST.
#
#     tests/chaos/kill.sh DIR [--aggregator KILLS] [--nodes KILLS] [--rounds N] [--seed N]      (100, 100, 700, 1)
#
# Both kinds of kills happen in the same run, each after a random time of 0.05 to 1 s; the killed process is started
# again at once. Prints both hashes, the kills that really happened and how long the aggregator took until it listened. BIN: where the programs are (build/release/bin). OVERRIDES: of the job ("--set ...").
set -euo pipefail
usage="usage: tests/chaos/kill.sh DIR [--aggregator KILLS] [--nodes KILLS] [--rounds N] [--seed N]"
[ $# -ge 1 ] || { echo "$usage" >&2; exit 2; }
dir=$(realpath -m "$1")
bin=$(realpath "${BIN:-$(dirname "$0")/../../build/release/bin}")
cd "$(dirname "$0")/../.."
shift
aggregator_kills=100 node_kills=100 rounds=700 seed=1
while [ $# -gt 1 ]; do
    case $1 in
        --aggregator) aggregator_kills=$2 ;;
        --nodes) node_kills=$2 ;;
        --rounds) rounds=$2 ;;
        --seed) seed=$2 ;;
        *) echo "$usage" >&2; exit 2 ;;
    esac
    shift 2
done
data=${DATA:-/usr/share/datasets/fashion-mnist}
nodes=4
RANDOM=$seed
mkdir -p "$dir"

if [ ! -e "$dir/certificates/ca.crt" ]; then
    examples/certificates.sh "$dir/certificates" authority >/dev/null
    examples/certificates.sh "$dir/certificates" aggregator 127.0.0.1 >/dev/null
    for node in $(seq $nodes); do examples/certificates.sh "$dir/certificates" node "edge-$node" >/dev/null; done
fi
[ -e "$dir/data/$nodes" ] || examples/deployment/split_idx.py "$data" "$dir/data" $nodes 2000
[ -e "$dir/evaluation" ] || examples/deployment/split_idx.py "$data" "$dir/evaluation" 1 2000

declare -A node_pid
aggregator_pid=
stop_all() { kill -9 ${aggregator_pid:-} ${node_pid[*]:-} 2>/dev/null || true; wait 2>/dev/null || true; }
trap stop_all EXIT
fail() { echo "FAILED: $*" >&2; tail -n 5 "$run"/*.log >&2; exit 1; }
tls() { echo "--tls-cert $dir/certificates/$1.crt --tls-key $dir/certificates/$1.key --tls-ca $dir/certificates/ca.crt"; }

# The port stays the same from the second start on: nodes only know that one.
start_aggregator() {
    "$bin/dither-aggregator" examples/deployment/job.toml --listen "127.0.0.1:${port:-0}" --state "$run/aggregator" \
        --data "$dir/evaluation/1" $(tls aggregator) --set job.rounds="$rounds" --set job.evaluate_every="$rounds" \
        --set federation.clients=$nodes --set federation.cohort=$nodes ${OVERRIDES:-} 2>>"$run/aggregator.log" &
    aggregator_pid=$!
}
start_node() {
    "$bin/dither-node" --aggregator "127.0.0.1:$port" --data "$dir/data/$1" --state "$run/edge-$1" --id "edge-$1" \
        --client $(($1 - 1)) $(tls "edge-$1") 2>>"$run/edge-$1.log" &
    node_pid[$1]=$!
}
# lines WORDS: how often the aggregator's log says so
lines() { grep -c -- "$*" "$run/aggregator.log" || true; }
wait_for_lines() {  # COUNT WORDS
    local count=$1
    shift
    until [ "$(lines "$*")" -ge "$count" ]; do
        kill -0 "$aggregator_pid" 2>/dev/null || return 1
        sleep 0.01
    done
}
begin() {  # RUN: everything is started
    run=$dir/$1 port=
    rm -rf "$run"
    mkdir -p "$run"
    : >"$run/aggregator.log"
    start_aggregator
    wait_for_lines 1 " on 127.0.0.1:" || fail "the aggregator does not listen"
    port=$(grep -om1 ' on 127.0.0.1:[0-9]*' "$run/aggregator.log" | grep -o '[0-9]*$')
    for node in $(seq $nodes); do start_node "$node"; done
}
finish() {  # the hash of the model
    wait "$aggregator_pid" || fail "the aggregator ended with $?"
    for node in $(seq $nodes); do wait "${node_pid[$node]}" || fail "edge-$node ended with $?"; done
    jq -er .model_sha256 "$run/aggregator/summary.json"
}
milliseconds() { echo $(($(date +%s%N) / 1000000)); }
pause() { sleep "$(printf '0.%03d' $((50 + RANDOM % 950)))"; }

begin undisturbed
started=$(milliseconds)
finish >"$dir/expected"
expected=$(<"$dir/expected")
echo "undisturbed: $rounds rounds in $(($(milliseconds) - started)) ms, model $expected"

begin disturbed
listening=()
killed_aggregators=0 killed_nodes=0
while kill -0 "$aggregator_pid" 2>/dev/null && [ $((killed_aggregators + killed_nodes)) -lt $((aggregator_kills + node_kills)) ]; do
    pause
    left=$((aggregator_kills - killed_aggregators + node_kills - killed_nodes))
    if [ $((RANDOM % left)) -lt $((aggregator_kills - killed_aggregators)) ]; then
        starts=$(lines " on 127.0.0.1:")
        kill -9 "$aggregator_pid" 2>/dev/null || break
        wait "$aggregator_pid" 2>/dev/null || true
        killed_aggregators=$((killed_aggregators + 1))
        at=$(milliseconds)
        start_aggregator
        wait_for_lines $((starts + 1)) " on 127.0.0.1:" || break
        listening+=($(($(milliseconds) - at)))
    else
        node=$((1 + RANDOM % nodes))
        kill -9 "${node_pid[$node]}" 2>/dev/null || break
        wait "${node_pid[$node]}" 2>/dev/null || true
        killed_nodes=$((killed_nodes + 1))
        start_node "$node"
    fi
done
finish >"$dir/found"
found=$(<"$dir/found")
echo "disturbed: $killed_aggregators kills of the aggregator, $killed_nodes of nodes, model $found"
printf '%s\n' "${listening[@]}" | sort -n | awk '{ms[NR] = $1} END {if (NR) printf "back after a kill, until it listens: median %d ms, worst %d ms\n", ms[int((NR + 1) / 2)], ms[NR]}'
[ "$found" = "$expected" ] || fail "the models differ"
[ "$killed_aggregators" -ge "$aggregator_kills" ] && [ "$killed_nodes" -ge "$node_kills" ] ||
    { echo "the run was complete before all kills, $aggregator_kills and $node_kills: use more --rounds" >&2; exit 77; }
worst=$(printf '%s\n' "${listening[@]}" 0 | sort -n | tail -1)
[ "$worst" -lt 2000 ] || fail "recovery took $worst ms, expected less than 2000"
