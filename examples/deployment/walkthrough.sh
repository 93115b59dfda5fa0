#!/usr/bin/env bash
# An aggregator and three nodes on this machine, over TLS, as they would run on four: makes an authority and
# certificates, deals Fashion-MNIST to three folders of which each node sees one, starts the daemons, and shows what the
# aggregator says until the run is complete. Everything stays in DIR: certificates, data, states, logs.
#
#     examples/deployment/walkthrough.sh DIR [OVERRIDES of the job: --set job.rounds=3 ...]
#
#     BIN     where the programs are (build/release/bin)     DATA  MNIST's files (/usr/share/datasets/fashion-mnist)
#     IMAGES  training images altogether (6000)
set -euo pipefail
[ $# -ge 1 ] || { echo "usage: examples/deployment/walkthrough.sh DIR [--set section.key=value]..." >&2; exit 2; }
dir=$(realpath -m "$1")
shift
here=$(cd "$(dirname "$0")/../.." && pwd)
bin=$(realpath "${BIN:-$here/build/release/bin}")
data=$(realpath "${DATA:-/usr/share/datasets/fashion-mnist}")
cd "$here"
mkdir -p "$dir"

# 1. Who may join: an authority, and a certificate for each machine. On real machines each gets its own key and
#    certificate and ca.crt, and nobody gets ca.key.
if [ ! -e "$dir/certificates/ca.crt" ]; then
    examples/certificates.sh "$dir/certificates" authority
    examples/certificates.sh "$dir/certificates" aggregator localhost 127.0.0.1
    for node in 1 2 3; do examples/certificates.sh "$dir/certificates" node "edge-$node"; done
fi
# 2. What each node trains on, and nobody else sees.
[ -e "$dir/data/3" ] || examples/deployment/split_idx.py "$data" "$dir/data" 3 "${IMAGES:-6000}"

pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; wait' EXIT
tls() { echo "--tls-cert $dir/certificates/$1.crt --tls-key $dir/certificates/$1.key --tls-ca $dir/certificates/ca.crt"; }

# 3. The aggregator, on a port of its own (PORT: 0 is any free one, which the log names).
log=$dir/aggregator.log
: >"$log"
"$bin/dither-aggregator" examples/deployment/job.toml --listen "127.0.0.1:${PORT:-0}" --http 0 --state "$dir/aggregator" \
    --data "$data" $(tls aggregator) --tls-crl "$dir/certificates/revoked.crl" --set output.pictures=false "$@" 2>>"$log" &
aggregator=$!
pids+=("$aggregator")
port_in_log() { grep -om1 "$1[0-9.]*:[0-9]*" "$log" | grep -o '[0-9]*$'; }
until port=$(port_in_log ' on ') && http=$(port_in_log 'http://'); do
    kill -0 "$aggregator" 2>/dev/null || { cat "$log" >&2; exit 1; }
    sleep 0.1
done

# 4. The nodes. They could have been started first: they try until the aggregator is there.
for node in 1 2 3; do
    "$bin/dither-node" --aggregator "localhost:$port" --data "$dir/data/$node" --state "$dir/edge-$node" \
        --id "edge-$node" $(tls "edge-$node") 2>>"$dir/edge-$node.log" &
    pids+=($!)
done

# 5. What it says meanwhile.
shown=
while kill -0 "$aggregator" 2>/dev/null; do
    now=$(curl -fs "http://127.0.0.1:$http/status" | jq -r '"round \(.round)/\(.rounds): \(.state), \(.peers) nodes, accuracy \(.test_accuracy // "-")"') || now=
    [ -z "$now" ] || [ "$now" = "$shown" ] || echo "$now"
    shown=$now
    sleep 0.3
done
wait "$aggregator" || { tail -n 5 "$log" "$dir"/edge-*.log >&2; exit 1; }
jq -r '"final accuracy \(.final_accuracy), \(.bytes_up) bytes up, \(.bytes_down) down, model \(.model_sha256)"' "$dir/aggregator/summary.json"
