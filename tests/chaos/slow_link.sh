#!/usr/bin/env bash
# A node behind a link of 1 Mbit/s each way that loses 2 % of all packets, over TLS: its rounds end, with the very model of
# a fast link. Exact updates of 200 KB, so that the link has something to do.
#
#     tests/chaos/slow_link.sh DIR [--rounds N]      (5)
#
# The link is a pair of virtual interfaces into a network namespace of its own, policed by nftables; it needs root, ip and
# nft (Debian's iproute2 and nftables), and is skipped (77) without them. BIN: where the programs are (build/release/bin).
set -euo pipefail
[ $# -ge 1 ] || { echo "usage: tests/chaos/slow_link.sh DIR [--rounds N]" >&2; exit 2; }
dir=$(realpath -m "$1") rounds=5
[ "${2:-}" != --rounds ] || rounds=$3
bin=$(realpath "${BIN:-$(dirname "$0")/../../build/release/bin}")
data=${DATA:-/usr/share/datasets/fashion-mnist}
cd "$(dirname "$0")/../.."

space=dither-$$ here=10.119.0.1 there=10.119.0.2
pids=()
clean_up() {
    kill "${pids[@]}" 2>/dev/null || true
    wait
    ip netns del "$space" 2>/dev/null || true
}
trap clean_up EXIT
[ "$(id -u)" = 0 ] && command -v ip nft >/dev/null && ip netns add "$space" 2>/dev/null ||
    { echo "skipped: no root, ip, nft or network namespaces"; exit 77; }
ip link add "dither-a" type veth peer name "dither-b" netns "$space"
ip address add "$here/30" dev dither-a
ip link set dither-a up
ip -n "$space" address add "$there/30" dev dither-b
ip -n "$space" link set dither-b up

mkdir -p "$dir"
if [ ! -e "$dir/certificates/edge.crt" ]; then
    examples/certificates.sh "$dir/certificates" authority >/dev/null
    examples/certificates.sh "$dir/certificates" aggregator "$here" >/dev/null
    examples/certificates.sh "$dir/certificates" node edge >/dev/null
fi
[ -e "$dir/data/1" ] || examples/deployment/split_idx.py "$data" "$dir/data" 1 600
tls() { echo "--tls-cert $dir/certificates/$1.crt --tls-key $dir/certificates/$1.key --tls-ca $dir/certificates/ca.crt"; }
fail() { echo "FAILED: $*" >&2; tail -n 5 "$dir"/*.log >&2; exit 1; }
milliseconds() { echo $(($(date +%s%N) / 1000000)); }

federate() {  # RUN: prints seconds and the model
    local run=$dir/$1 log=$dir/$1.log started port
    rm -rf "$run"
    : >"$log"
    "$bin/dither-aggregator" examples/deployment/job.toml --listen "$here:0" --state "$run/aggregator" --data "$dir/data/1" \
        $(tls aggregator) --set federation.clients=1 --set federation.cohort=1 --set job.rounds="$rounds" \
        --set codec.uplink.kind=raw --set codec.downlink.kind=raw 2>>"$log" &
    local aggregator=$!
    pids+=("$aggregator")
    until port=$(grep -om1 " on $here:[0-9]*" "$log" | grep -o '[0-9]*$'); do
        kill -0 "$aggregator" 2>/dev/null || fail "$1: the aggregator has ended"
        sleep 0.05
    done
    started=$(milliseconds)
    ip netns exec "$space" "$bin/dither-node" --aggregator "$here:$port" --data "$dir/data/1" --state "$run/edge" --id edge \
        $(tls edge) 2>>"$log" &
    pids+=($!)
    wait "$aggregator" || fail "$1: the aggregator ended with $?"
    wait "${pids[-1]}" || fail "$1: the node ended with $?"
    echo "$1 link: $rounds rounds in $(($(milliseconds) - started)) ms, $(jq -r '"\(.bytes_up) bytes up, \(.bytes_down) down"' "$run/aggregator/summary.json")"
}
model_of() { jq -er .model_sha256 "$dir/$1/aggregator/summary.json"; }

federate fast
ip netns exec "$space" nft -f - <<RULES
table inet link {
    chain sent     { type filter hook output priority 0; oifname dither-b jump wire; }
    chain received { type filter hook input priority 0; iifname dither-b jump wire; }
    chain wire {
        numgen random mod 100 < 2 drop
        limit rate over 125 kbytes/second burst 32 kbytes drop
    }
}
RULES
federate slow
[ "$(model_of slow)" = "$(model_of fast)" ] || fail "the models differ"
echo "the same model: $(model_of slow)"
