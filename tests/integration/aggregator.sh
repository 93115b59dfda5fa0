#!/usr/bin/env bash
# dither-aggregator as its operators meet it: what it refuses, what it says while it runs, what signals do.
source "$(dirname "$0")/lib.sh"
trap 'kill "${pids[@]}" 2>/dev/null || true; wait; rm -rf "$work"' EXIT
pids=()

aggregator=("$bin/dither-aggregator" "$work/job.toml")
refuses 2 '--listen is required' "${aggregator[@]}" --state "$work/s"
refuses 2 '--tls-cert is missing: expected it, or --insecure-loopback' "${aggregator[@]}" --state "$work/s" --listen 127.0.0.1:0
refuses 2 'expected one of the two' "${aggregator[@]}" --state "$work/s" --listen 127.0.0.1:0 --insecure-loopback --tls-key k
refuses 2 'loopback' "${aggregator[@]}" --state "$work/s" --listen 192.0.2.1:7000 --insecure-loopback
refuses 2 'HOST:PORT' "${aggregator[@]}" --state "$work/s" --listen 7000 --insecure-loopback
refuses 2 'precision.polcy.*precision.policy' "${aggregator[@]}" --state "$work/s" --listen 127.0.0.1:0 --insecure-loopback --set precision.polcy=x
[ ! -e "$work/s" ] || fail "a refused start left $work/s"

# start STATE OPTIONS...: sets pid, port and http
start() {
    local state=$1
    shift
    log=$work/aggregator.log
    : >"$log"
    "${aggregator[@]}" --state "$state" --listen 127.0.0.1:0 --http 0 --insecure-loopback --set output.pictures=false \
        --set federation.clients=2 --set federation.cohort=2 "$@" 2>"$log" &
    pid=$!
    pids+=($pid)
    until port=$(port_of ' on ') && http=$(port_of 'http://'); do
        kill -0 $pid 2>/dev/null || fail "$(cat "$log")"
        sleep 0.05
    done
}
port_of() { grep -om1 "$1[0-9.]*:[0-9]*" "$log" | grep -o '[0-9]*$'; }
node() {  # ID CLIENT
    "$bin/dither-node" --aggregator "127.0.0.1:$port" --insecure-loopback --data "$work/table.csv" --state "$work/$1" --id "$1" \
        --client "$2" 2>"$work/$1.log" &
    pids+=($!)
}
ended_with() {  # PID CODE
    local actual=0
    wait "$1" || actual=$?
    [ "$actual" -eq "$2" ] || fail "exit code $actual instead of $2: $(tail -n 3 "$work"/*.log)"
}

# A whole run: what it says meanwhile, and that nobody else may use its folder or its port.
start "$work/whole" --set job.rounds=400
[ "$(curl -fs "http://127.0.0.1:$http/status" | jq -r .state)" = 'waiting for nodes' ] || fail "it does not wait for nodes"
[ "$(curl -fs "http://127.0.0.1:$http/healthz")" = ok ] || fail "it is not healthy"
curl -fs "http://127.0.0.1:$http/metrics" | grep -q '^dither_connections 0$' || fail "no metrics"
refuses 2 'in use by another process' "${aggregator[@]}" --state "$work/whole" --listen 127.0.0.1:0 --insecure-loopback
refuses 1 'cannot listen' "${aggregator[@]}" --state "$work/other" --listen "127.0.0.1:$port" --insecure-loopback
node a 0
node b 1
ended_with "$pid" 0
ended_with "${pids[-1]}" 0
ended_with "${pids[-2]}" 0
whole=$(hash_of "$work/whole")
[ "$(jq -s 'map(select(.committed and .participants == 2)) | length' "$work/whole/rounds.jsonl")" = 400 ] || fail "not 400 rounds of two"

# Stopped by a signal and started again with the same command, it ends with the same model.
start "$work/stopped" --set job.rounds=400
node a 0
node b 1
until [ -s "$work/stopped/rounds.jsonl" ]; do sleep 0.01; done
kill -STOP "${pids[-1]}"  # no round ends without it
kill -TERM $pid
ended_with "$pid" 143
refuses 2 'already holds a run' "${aggregator[@]}" --state "$work/stopped" --listen 127.0.0.1:0 --insecure-loopback --fresh
kill -CONT "${pids[-1]}"
kill -TERM "${pids[-1]}" "${pids[-2]}"
ended_with "${pids[-1]}" 143
start "$work/stopped" --set job.rounds=400
grep -q ' continues ' "$log" || fail "it does not continue"
node a 0
node b 1
kill -HUP $pid  # reads its files again, and nothing else
ended_with "$pid" 0
[ "$(hash_of "$work/stopped")" = "$whole" ] || fail "stopped and started again, it ends with another model"
echo ok
