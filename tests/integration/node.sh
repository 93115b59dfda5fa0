#!/usr/bin/env bash
# dither-node as its users run it: three of them and an aggregator on this machine, through restarts, refusals and limits.
source "$(dirname "$0")/lib.sh"
for part in 0 1 2; do awk -v part=$part 'NR % 3 == part' "$work/table.csv" >"$work/part-$part.csv"; done
pids=()
trap 'kill -9 "${pids[@]}" 2>/dev/null || true; rm -rf "$work"' EXIT

# start_aggregator RUN ROUNDS: sets $port and $aggregator.
start_aggregator() {
    local run=$work/$1
    mkdir -p "$run"
    "$bin/dither-aggregator" "$work/job.toml" --listen 127.0.0.1:0 --insecure-loopback --state "$run/state" \
        --set federation.clients=3 --set federation.cohort=3 --set "job.rounds=$2" --set output.pictures=false \
        2>>"$run/aggregator.log" &
    aggregator=$!
    pids+=("$aggregator")
    for _ in $(seq 100); do
        port=$(grep -o ' on 127.0.0.1:[0-9]*' "$run/aggregator.log" 2>/dev/null | head -1 | grep -o '[0-9]*$') && return
        sleep 0.1
    done
    fail "the aggregator does not listen: $(cat "$run/aggregator.log")"
}
# start_node RUN CLIENT OPTIONS...: sets $node.
start_node() {
    local run=$work/$1 client=$2
    shift 2
    "$bin/dither-node" --aggregator "127.0.0.1:$port" --data "$work/part-$client.csv" --state "$run/node-$client" \
        --client "$client" --insecure-loopback "$@" 2>>"$run/node-$client.log" &
    node=$!
    pids+=("$node")
}
# ends_with CODE PID WHAT
ends_with() {
    local code=0
    wait "$2" || code=$?
    [ "$code" -eq "$1" ] || fail "$3 ended with $code instead of $1: $(tail -n 3 "$work"/*/*.log)"
}
await() { for _ in $(seq 300); do grep -q "$1" "$2" 2>/dev/null && return; sleep 0.05; done; fail "no '$1' in $2"; }

# An undisturbed run. The nodes leave when it is complete.
start_aggregator calm 12
nodes=()
for client in 0 1 2; do start_node calm $client; nodes+=("$node"); done
ends_with 0 "$aggregator" "the aggregator"
for node in "${nodes[@]}"; do ends_with 0 "$node" "a node"; done
grep -Eq '^node-[0-9a-f]{16}$' "$work/calm/node-0/id" || fail "a node has no id"

# The same with a node that is killed, one that is told to stop, and both back: the same model.
start_aggregator rough 12
start_node rough 0; nodes=("$node")
start_node rough 1; killed=$node
await 'connected to' "$work/rough/node-1.log"
kill -9 "$killed"
wait "$killed" 2>/dev/null || true
start_node rough 2; stopped=$node
await 'connected to' "$work/rough/node-2.log"
kill -TERM "$stopped"
ends_with 143 "$stopped" "a node that is told to stop"
start_node rough 1; nodes+=("$node")
start_node rough 2; nodes+=("$node")
ends_with 0 "$aggregator" "the aggregator"
for node in "${nodes[@]}"; do ends_with 0 "$node" "a node"; done
[ "$(hash_of "$work/calm/state")" = "$(hash_of "$work/rough/state")" ] || fail "the model depends on who was disturbed"

# A node looks for its aggregator for as long as it takes, and stops cleanly while it waits.
port=1
start_node calm 0
await 'the next attempt in' "$work/calm/node-0.log"
refuses 2 'in use by another node' "$bin/dither-node" --aggregator 127.0.0.1:1 --data "$work/part-0.csv" \
    --state "$work/calm/node-0" --insecure-loopback
kill -INT "$node"
ends_with 130 "$node" "a node that is interrupted"

# What a check finds.
start_aggregator checked 1
"$bin/dither-node" --aggregator "127.0.0.1:$port" --data "$work/part-0.csv" --state "$work/checked/node" \
    --insecure-loopback --check >"$work/found" || fail "a good node fails its check: $(cat "$work/found")"
[ "$(grep -c ' ok ' "$work/found")" -eq 4 ] || fail "not four good findings: $(cat "$work/found")"

# Who is refused asks again, seldom.
start_node checked 0; first=$node
await 'welcome' "$work/checked/node-0.log"
"$bin/dither-node" --aggregator "127.0.0.1:$port" --data "$work/part-1.csv" --state "$work/checked/node-1" --client 0 \
    --insecure-loopback 2>"$work/checked/node-1.log" &
second=$!
pids+=("$second")
await "client 0 is another node's; the next attempt in [456]" "$work/checked/node-1.log"
kill "$first" "$second" "$aggregator"
code=0
"$bin/dither-node" --aggregator 127.0.0.1:1 --data "$work/none" --state "$work/checked/node" --insecure-loopback \
    --check >"$work/found" || code=$?
[ "$code" -eq 1 ] && [ "$(grep -c ' failed ' "$work/found")" -eq 2 ] || fail "a bad node passes: $(cat "$work/found")"

# A metered node takes part until its budget is used, then the round goes on without it.
start_aggregator metered 6
nodes=()
start_node metered 0 --uplink-budget 1500; nodes+=("$node")
start_node metered 1; nodes+=("$node")
start_node metered 2; nodes+=("$node")
ends_with 0 "$aggregator" "the aggregator"
for node in "${nodes[@]}"; do ends_with 0 "$node" "a node"; done
used=$(cut -d' ' -f2 "$work/metered/node-0/uplink")
grep -q 'is counted' "$work/metered/node-0.log" || fail "a metered node does not take part"
[ "$(jq -r .dropped "$work/metered/state/rounds.jsonl" | tail -1)" -eq 1 ] || fail "a used budget is exceeded: $used"

# Bad usage.
refuses 2 'tls-cert' "$bin/dither-node" --aggregator 127.0.0.1:1 --data d --state "$work/s"
refuses 2 'no node id' "$bin/dither-node" --aggregator 127.0.0.1:1 --data d --state "$work/s" --id Upper --insecure-loopback
refuses 2 'loopback' "$bin/dither-node" --aggregator 192.0.2.1:1 --data d --state "$work/s" --insecure-loopback
"$bin/dither-node" --version | grep -q '^dither-node [0-9.]* (' || fail "no version"
if ldd "$bin/dither-node" | grep -q 'libmpi'; then fail "dither-node links MPI"; fi
