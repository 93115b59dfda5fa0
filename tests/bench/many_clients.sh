#!/usr/bin/env bash
# Client updates a second of CNN-2 on Fashion-MNIST: 10,000 clients with 60 images each, 100 of them a round, batch 32, one core,
# against a bare PyTorch FedAvg loop, in turns. The loop deals all images to 1,000 clients, so that they have 60 each, too; a client
# that is not asked costs it nothing. Of a run the rounds count that are not evaluated, all of their frames, checksums and
# checkpoints included. Prints the updates a second of each turn and the medians of the ratios. In 8 bits updates are coded twice:
# as 8-bit codes as they are, and by the context coder, which takes the fewest bytes, and more time than such a client's training.
#
#     tests/bench/many_clients.sh PEER_SCRIPT [TURNS]       PEER_SCRIPT: a fedavg_torch.py; needs python3-torch
#                                                           BIN: where the programs are, build/release/bin
set -euo pipefail
cd "$(dirname "$0")/../.."
peer=${1:?"usage: tests/bench/many_clients.sh PEER_SCRIPT [TURNS]"}
turns=${2:-5}
bin=${BIN:-build/release/bin}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

theirs() {
    OMP_NUM_THREADS=1 taskset -c 0 /usr/bin/python3 "$peer" --rounds 3 --clients 1000 --cohort 100 --batch 32 "$@" 2>/dev/null |
        jq '.samples_per_s / 60 | round'
}
ours() {
    rm -rf "$out/run"
    taskset -c 0 "$bin/dither-simulate" examples/jobs/fashion_cnn2.toml --quiet --workers 1 --out "$out/run" \
        --set federation.clients=10000 --set federation.cohort=100 --set federation.partition.kind=resampled \
        --set federation.partition.samples=60 --set train.batch_size=32 --set job.rounds=4 --set job.evaluate_every=4 \
        --set noise.kind=none --set output.pictures=false "$@" >/dev/null
    jq -s 'map(select(.test_accuracy == null)) | (map(.participants) | add) / (map(.seconds) | add) | round' "$out/run/rounds.jsonl"
}

printf 'turn  torch_fp32  torch_qat  fp32  8bit_packed  8bit_context\n'
for turn in $(seq "$turns"); do
    a=$(theirs); b=$(theirs --qat)
    c=$(ours --set precision.policy=fp32 --set codec.uplink.kind=raw --set codec.downlink.kind=raw)
    d=$(ours --set precision.policy=uniform --set codec.uplink.coder=packed --set codec.uplink.bits=8)
    e=$(ours --set precision.policy=uniform)
    printf '%4d %11d %10d %5d %12d %13d\n' "$turn" "$a" "$b" "$c" "$d" "$e"
    echo "$a $b $c $d $e" >>"$out/figures"
done
ratio() { awk "{print $1}" "$out/figures" | sort -g | awk '{v[NR] = $1} END {print (NR % 2) ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2}'; }
printf 'fp32 / torch fp32:             %.2f\n' "$(ratio '$3 / $1')"
printf '8-bit, packed / torch fp32:    %.2f\n' "$(ratio '$4 / $1')"
printf '8-bit, packed / torch qat:     %.2f\n' "$(ratio '$4 / $2')"
printf '8-bit, context / torch fp32:   %.2f\n' "$(ratio '$5 / $1')"
