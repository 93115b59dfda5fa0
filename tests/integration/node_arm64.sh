#!/usr/bin/env bash
# An ARM node, under qemu, and one of this machine's architecture finish three rounds together over TLS.
#
#     cmake --preset node-arm64 && cmake --build --preset node-arm64
#     tests/integration/node_arm64.sh build/release/bin build/node-arm64/bin
source "$(dirname "$0")/lib.sh"
arm=${2:-build/node-arm64/bin}
if [ ! -x "$arm/dither-node" ] || ! command -v qemu-aarch64-static >/dev/null; then
    echo "no $arm/dither-node or no qemu-aarch64-static (examples/packages-arm64.sh): nothing is tested"
    exit 0
fi
pids=()
trap 'kill -9 "${pids[@]}" 2>/dev/null || true; rm -rf "$work"' EXIT
for part in 0 1; do awk -v part=$part 'NR % 2 == part' "$work/table.csv" >"$work/part-$part.csv"; done

certificates=$work/certificates
{
    examples/certificates.sh "$certificates" authority
    examples/certificates.sh "$certificates" aggregator localhost 127.0.0.1
    for node in edge-0 edge-1; do examples/certificates.sh "$certificates" node $node; done
} >/dev/null
tls() { echo "--tls-cert $certificates/$1.crt --tls-key $certificates/$1.key --tls-ca $certificates/ca.crt"; }

log=$work/aggregator.log
# shellcheck disable=SC2046
"$bin/dither-aggregator" "$work/job.toml" --listen 127.0.0.1:0 --state "$work/state" $(tls aggregator) \
    --set federation.clients=2 --set federation.cohort=2 --set job.rounds=3 --set output.pictures=false 2>"$log" &
aggregator=$!
pids+=("$aggregator")
until port=$(grep -o ' on 127.0.0.1:[0-9]*' "$log" 2>/dev/null | head -1 | grep -o '[0-9]*$'); do
    kill -0 "$aggregator" 2>/dev/null || fail "the aggregator does not listen: $(cat "$log")"
    sleep 0.1
done

# start CLIENT COMMAND...
start() {
    local client=$1
    shift
    # shellcheck disable=SC2046
    "$@" --aggregator "localhost:$port" --data "$work/part-$client.csv" --state "$work/edge-$client" --client "$client" \
        $(tls "edge-$client") 2>"$work/edge-$client.log" &
    pids+=($!)
}
start 0 "$bin/dither-node"
start 1 qemu-aarch64-static -L / "$arm/dither-node"
for pid in "${pids[@]}"; do
    wait "$pid" || fail "a program ended with $?: $(tail -n 5 "$log" "$work"/edge-*.log)"
done
counted=$(grep -c 'the update is counted' "$work/edge-1.log")
[ "$counted" -eq 3 ] || fail "$counted of 3 updates of the ARM node were counted"
[ "$(jq -s 'map(.participants) | add' "$work/state/rounds.jsonl")" -eq 6 ] || fail "not everybody took part in every round"
