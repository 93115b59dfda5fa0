#!/usr/bin/env bash
# Does training in 8 bits (weights, activations, gradients, optimizer) cost accuracy? cnn4 on Fashion-MNIST and resnet8 on
# CIFAR-10, four IID clients, fp32 on the wire, against fp32 training from the same seeds. The schedules are short. Prints the
# accuracy after the last round, and the paired difference with its standard error, as a Markdown table. Finished runs in OUT
# are kept. CIFAR-10 as data.format = "cifar" takes it; without it resnet8 is skipped.
#
#     tests/bench/accuracy_8bit.sh OUT [CIFAR_FOLDER] [SEEDS]          BIN: where the programs are, build/release/bin
set -euo pipefail
cd "$(dirname "$0")/../.."
out=$1
cifar=${2:-}
seeds=${3:-5}
bin=${BIN:-build/release/bin}
common=(--set federation.clients=4 --set federation.cohort=4 --set federation.partition=iid --set noise.kind=none
    --set codec.uplink.kind=raw --set codec.downlink.kind=raw --set job.evaluate_every=100 --set output.pictures=false)
cnn4=(--set model.name=cnn4 --set data.limit=12000 --set job.rounds=4 --set train.optimizer.lr=0.02)
resnet8=(--set model.name=resnet8 --set data.format=cifar --set "data.path=\"$cifar\"" --set data.augment=crop_flip
    --set data.limit=10000 --set job.rounds=10)

run() {  # MODEL BITS SEED
    local dir=$out/$1-$2-$3 policy=fp32
    local -n options=$1
    [ -s "$dir/summary.json" ] && return
    rm -rf "$dir"
    [ "$2" -eq 32 ] || policy=uniform
    "$bin/dither-simulate" examples/jobs/fashion_cnn2.toml --quiet --workers "${WORKERS:-1}" --out "$dir" "${common[@]}" \
        "${options[@]}" --set job.seed="$3" --set precision.policy=$policy --set precision.bits=8 >/dev/null
}
accuracy() { jq '.final_accuracy * 100' "$out/$1-$2-$3/summary.json"; }
moments() { awk '{n++; s += $1; q += $1 * $1} END {m = s / n; d = n < 2 ? 0 : (q - n * m * m) / (n - 1); printf "%.2f %.2f", m, (d < 0 ? 0 : sqrt(d))}'; }

models=(cnn4)
[ -z "$cifar" ] && echo 'resnet8 skipped: no CIFAR-10' >&2 || models+=(resnet8)
for seed in $(seq "$seeds"); do
    for model in "${models[@]}"; do
        run "$model" 32 "$seed"
        run "$model" 8 "$seed"
    done
done
echo '| model | fp32 | 8 bits | difference, paired |'
echo '|---|---|---|---|'
for model in "${models[@]}"; do
    full=$(for seed in $(seq "$seeds"); do accuracy "$model" 32 "$seed"; done | moments)
    few=$(for seed in $(seq "$seeds"); do accuracy "$model" 8 "$seed"; done | moments)
    paired=$(for seed in $(seq "$seeds"); do
        echo "$(accuracy "$model" 8 "$seed") $(accuracy "$model" 32 "$seed")"
    done | awk '{print $1 - $2}' | moments)
    awk -v m="$model" -v f="$full" -v e="$few" -v p="$paired" -v s="$seeds" 'BEGIN {
        split(f, F); split(e, E); split(p, P)
        printf "| %s | %.2f +- %.2f | %.2f +- %.2f | %+.2f +- %.2f |\n", m, F[1], F[2], E[1], E[2], P[1], P[2] / sqrt(s)
    }'
done
