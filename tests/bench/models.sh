#!/usr/bin/env bash
# Every model in fp32 and with weights, activations and gradients in 8 bits, in turns on one core: samples a second, and the most memory that activations took at
# once (as the arena counts it) and that the process took (resident, less what it had before the network was made).
#
#     tests/bench/models.sh [TURNS] [BATCH]        BIN: where the programs are, build/release/bin
set -euo pipefail
cd "$(dirname "$0")/../.."
turns=${1:-5}
batch=${2:-32}
bin=${BIN:-build/release/bin}
out=$(mktemp)
trap 'rm -f "$out"' EXIT
declare -A steps=([linear]=3000 [mlp]=1500 [cnn2]=200 [cnn4]=20 [resnet8]=20 [mobilenet]=30)

for _ in $(seq "$turns"); do
    for model in "${!steps[@]}"; do
        for bits in 32 8; do
            taskset -c 0 "$bin/dither-bench-train" --model "$model" --batch "$batch" --steps "${steps[$model]}" \
                --forward $bits --backward $bits >>"$out"
        done
    done
done
echo '| model | fp32, samples/s | 8 bits | ratio | activations, MiB | 8 bits | ratio | resident, MiB | 8 bits |'
echo '|---|---|---|---|---|---|---|---|---|'
for model in linear mlp cnn2 cnn4 resnet8 mobilenet; do
    jq -rs --arg model "$model" '
        def median: sort | .[length / 2 | floor];
        map(select(.model == $model)) | group_by(.forward) | .[0] as $few | .[1] as $full
        | def speed(runs): runs | map(.samples_per_s) | median;
          def activations(runs): runs | map(.activations_mib) | median;
          def resident(runs): runs | map(.resident_mib - .resident_before_mib) | median;
          def round2: . * 100 | round / 100;
        [range(0; $full | length) | $few[.].samples_per_s / $full[.].samples_per_s] as $ratios
        | "| \($model) | \(speed($full)) | \(speed($few)) | \($ratios | median | round2) | \(activations($full) | round2) | \(activations($few) | round2) | \(activations($few) / activations($full) | round2) | \(resident($full) | round2) | \(resident($few) | round2) |"
        ' "$out"
done
