#!/usr/bin/env bash
# CNN-2 on Fashion-MNIST's sizes, batch 32, one core each, against a bare PyTorch FedAvg loop, in turns: local training alone
# (fp32; weights, activations and gradients in 8 bits), and a whole federated run with evaluation, frames, checksums and fsync
# (fp32; everything in 8 bits). Prints the samples a second of each turn and the medians of the ratios.
#
#     tests/bench/against_peer.sh PEER_SCRIPT [TURNS]       PEER_SCRIPT: a fedavg_torch.py; needs python3-torch
#                                                           BIN: where the programs are, build/release/bin
set -euo pipefail
cd "$(dirname "$0")/../.."
peer=$1
turns=${2:-5}
bin=${BIN:-build/release/bin}
rounds=2
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

theirs() {
    OMP_NUM_THREADS=1 taskset -c 0 /usr/bin/python3 "$peer" --rounds $rounds "$@" 2>/dev/null | jq .samples_per_s
}
training() { taskset -c 0 "$bin/dither-bench-train" --model cnn2 --steps 800 --forward "$1" --backward "$1" | jq .samples_per_s; }
federated() {
    rm -rf "$out/run"
    taskset -c 0 "$bin/dither-simulate" examples/jobs/fashion_cnn2.toml --quiet --workers 1 --out "$out/run" \
        --set job.rounds=$rounds --set job.evaluate_every=$rounds --set federation.partition.kind=iid \
        --set noise.kind=none --set output.pictures=false "$@" >/dev/null
    jq '.samples_per_s | round' "$out/run/summary.json"
}

printf 'turn  torch_fp32  torch_qat  training_fp32  training_8bit  federated_fp32  federated_8bit\n'
for turn in $(seq "$turns"); do
    a=$(theirs); b=$(theirs --qat); c=$(training 32); d=$(training 8)
    e=$(federated --set precision.policy=fp32 --set codec.uplink.kind=raw --set codec.downlink.kind=raw)
    f=$(federated --set precision.policy=uniform)
    printf '%4d %11d %10d %14d %14d %15d %15d\n' "$turn" "$a" "$b" "$c" "$d" "$e" "$f"
    echo "$a $b $c $d $e $f" >>"$out/figures"
done
ratio() { awk "{print $1}" "$out/figures" | sort -g | awk '{v[NR] = $1} END {print (NR % 2) ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2}'; }
printf 'training, fp32 / torch fp32:   %.2f\n' "$(ratio '$3 / $1')"
printf 'training, 8-bit / torch fp32:  %.2f\n' "$(ratio '$4 / $1')"
printf 'training, 8-bit / torch qat:   %.2f\n' "$(ratio '$4 / $2')"
printf 'federated, fp32 / torch fp32:  %.2f\n' "$(ratio '$5 / $1')"
printf 'federated, 8-bit / torch fp32: %.2f\n' "$(ratio '$6 / $1')"
printf 'federated, 8-bit / torch qat:  %.2f\n' "$(ratio '$6 / $2')"
