#!/usr/bin/env bash
# Client training against a bare PyTorch FedAvg loop on the same work: CNN-2, Fashion-MNIST, 100 IID clients, 10 a round,
# batch 32, fp32, one core each, in turns. Prints the samples a second of each turn and the median of the ratios.
#
#     tests/bench/against_peer.sh PEER_SCRIPT [TURNS]       PEER_SCRIPT: a fedavg_torch.py; needs python3-torch
set -euo pipefail
cd "$(dirname "$0")/../.."
peer=$1
turns=${2:-5}
rounds=2
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

ours() {
    rm -rf "$out/run"
    taskset -c 0 build/release/bin/dither-simulate examples/jobs/fashion_cnn2.toml --quiet --workers 1 --out "$out/run" \
        --set job.rounds=$rounds --set job.evaluate_every=$rounds --set federation.partition.kind=iid \
        --set noise.kind=none --set output.pictures=false "$@" >/dev/null
    jq '.samples_per_s | round' "$out/run/summary.json"
}
theirs() {
    OMP_NUM_THREADS=1 taskset -c 0 /usr/bin/python3 "$peer" --rounds $rounds "$@" | jq .samples_per_s
}

printf 'turn  torch_fp32  torch_qat  dither_fp32  dither_8bit\n'
for turn in $(seq "$turns"); do
    a=$(theirs); b=$(theirs --qat)
    c=$(ours --set precision.policy=fp32 --set codec.uplink.kind=raw --set codec.downlink.kind=raw)
    d=$(ours --set precision.policy=uniform)
    printf '%4d %11d %10d %12d %12d\n' "$turn" "$a" "$b" "$c" "$d"
    echo "$a $b $c $d" >>"$out/figures"
done
median() { sort -g | awk '{v[NR] = $1} END {print (NR % 2) ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2}'; }
printf 'dither fp32 / torch fp32: %.2f\n' "$(awk '{print $3 / $1}' "$out/figures" | median)"
printf 'dither 8-bit (simulated) / torch qat: %.2f\n' "$(awk '{print $4 / $2}' "$out/figures" | median)"
