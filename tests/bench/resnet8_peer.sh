#!/usr/bin/env bash
# Training steps of resnet8 (32x32x3 images, batch 32, one core) against PyTorch on the same network, in turns: made-up
# images on both sides, no evaluation, no wire. Prints the samples a second of each turn and the medians of the ratios.
# PyTorch's bf16 autocast is timed over fewer steps: without bf16 units it takes seconds for one.
#
#     tests/bench/resnet8_peer.sh [TURNS]          needs python3-torch; BIN: where the programs are, build/release/bin
set -euo pipefail
cd "$(dirname "$0")/../.."
turns=${1:-5}
bin=${BIN:-build/release/bin}
out=$(mktemp)
trap 'rm -f "$out"' EXIT

ours() { taskset -c 0 "$bin/dither-bench-train" --model resnet8 --steps 40 --forward "$1" --backward "$1" | jq .samples_per_s; }
theirs() { OMP_NUM_THREADS=1 taskset -c 0 /usr/bin/python3 tests/bench/resnet8_torch.py --synthetic "$@" | jq .samples_per_s; }

printf 'turn  torch_fp32  torch_bf16  dither_fp32  dither_8bit\n'
for turn in $(seq "$turns"); do
    a=$(theirs --steps 30); b=$(theirs --steps 6 --amp); c=$(ours 32); d=$(ours 8)
    printf '%4d %11.0f %11.0f %12.0f %12.0f\n' "$turn" "$a" "$b" "$c" "$d"
    echo "$a $b $c $d" >>"$out"
done
ratio() { awk "{print $1}" "$out" | sort -g | awk '{v[NR] = $1} END {print (NR % 2) ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2}'; }
printf 'dither fp32 / torch fp32: %.2f\n' "$(ratio '$3 / $1')"
printf 'dither 8-bit / torch fp32: %.2f\n' "$(ratio '$4 / $1')"
printf 'dither 8-bit / torch bf16: %.2f\n' "$(ratio '$4 / $2')"
printf 'dither 8-bit / dither fp32: %.2f\n' "$(ratio '$4 / $3')"
