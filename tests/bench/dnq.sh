#!/usr/bin/env bash
# Does profiled noise in training (DNQ) make a model that survives post-training quantization? CNN-2 on Fashion-MNIST:
#
#     plain     SGD with momentum, cosine schedule
#     recipe    plain with Nesterov momentum and label smoothing 0.1
#     swa       recipe, averaged over the last quarter of the rounds, at least two
#     dnq-B     swa with differential weight noise and activation drop-in for B bits: none for half of the rounds, then
#               a linear ramp over a quarter
#     naive-B   the same with the profiled noise itself, whose mean does not cancel
#
# recipe differs from plain in two things, swa from recipe (the last model of the same runs) in the average alone, dnq-B
# from swa in both kinds of noise, and naive-B from dnq-B in the kind of the weight noise alone. Every model is quantized
# after training to W4A4, W3A3 and W2A2, with MinMax and with MSE ranges of 100 training images. Prints accuracy and
# paired differences with plain and with swa, mean and standard error over the seeds, as Markdown tables, and what
# rounding errors look like in plain models.
#
#     tests/bench/dnq.sh OUT          DROP_IN: share of the activations (0.5)
#                                     ROUNDS, SEEDS, LIMIT, BIN, WORKERS: tests/bench/study.sh
here=$(cd "$(dirname "$0")" && pwd)
[ $# -ge 1 ] || { echo "usage: tests/bench/dnq.sh OUT" >&2; exit 2; }
out=$(realpath -m "$1")
source "$here/study.sh"
widths=(4 3 2)
observers=(minmax mse)
share() { awk -v r="$rounds" -v s="$1" 'BEGIN {print r * s}'; }
averaged=$(((rounds + 3) / 4))
swa_start=$((rounds - (averaged < 2 ? 2 : averaged) + 1))
[ $swa_start -ge 1 ] || swa_start=1
plain=(--set precision.policy=fp32)
recipe=("${plain[@]}" --set train.optimizer.nesterov=true --set train.label_smoothing=0.1)
swa=("${recipe[@]}" --set train.swa_start=$swa_start)
noise=(--set noise.drop_in="${DROP_IN:-0.5}" --set noise.warmup_rounds="$(share 0.5)" --set noise.ramp=linear
    --set noise.ramp_rounds="$(share 0.25)")

evaluate_all() {  # DIR PREFIX OPTIONS...
    local dir=$1 prefix=$2 bits observer
    shift 2
    for bits in "${widths[@]}"; do
        for observer in "${observers[@]}"; do
            score "$dir" "$prefix$observer-$bits" --weights "$bits" --activations "$bits" --observer "$observer" "$@"
        done
    done
}

names=(plain recipe swa)
for seed in $(seq "$seeds"); do
    train "$out/plain-$seed" "$seed" "${plain[@]}"
    evaluate_all "$out/plain-$seed" ''
    train "$out/swa-$seed" "$seed" "${swa[@]}"
    evaluate_all "$out/swa-$seed" ''
    evaluate_all "$out/swa-$seed" last- --no-average
done
for kind in differential naive; do
    for bits in "${widths[@]}"; do
        name=$([ $kind = naive ] && echo naive || echo dnq)-$bits
        names+=("$name")
        for seed in $(seq "$seeds"); do
            train "$out/$name-$seed" "$seed" "${swa[@]}" "${noise[@]}" --set noise.kind=$kind --set noise.bits="$bits"
            evaluate_all "$out/$name-$seed" ''
        done
    done
done

# of NAME EVALUATION VARIANT: the accuracies; the recipe's model is the last one of the run that is averaged
of() { if [ "$1" = recipe ]; then column "$out" swa "last-$2" "$3"; else column "$out" "$1" "$2" "$3"; fi; }

table() {  # TITLE EVALUATION VARIANT
    local base average name found
    base=$(of plain "$2" "$3")
    average=$(of swa "$2" "$3")
    echo
    echo "$1:"
    echo
    echo '| training | accuracy | against plain, paired | against SWA alone, paired |'
    echo '|---|---|---|---|'
    for name in "${names[@]}"; do
        found=$(of "$name" "$2" "$3")
        printf '| %s | %s | %s | %s |\n' "$name" "$(echo "$found" | moments)" "$(paired "$found" "$base")" \
            "$(paired "$found" "$average")"
    done
}

echo "Fashion-MNIST, $rounds rounds, $seeds seeds"
table 'fp32' minmax-4 fp32
for bits in "${widths[@]}"; do
    for observer in "${observers[@]}"; do
        table "W${bits}A$bits, $observer" "$observer-$bits" quantized
    done
done

echo
echo 'Rounding errors of the plain models (Kolmogorov distance to the fitted Gaussian; ratio: activations to weights, each'
echo 'relative to its operand), mean over the seeds:'
echo
echo '| bits | layer | weights, distance | activations, distance | ratio |'
echo '|---|---|---|---|---|'
for bits in 4 2; do
    files=()
    for seed in $(seq "$seeds"); do
        score "$out/plain-$seed" "errors-$bits" --errors "$bits"
        files+=("$out/plain-$seed/errors-$bits.json")
    done
    jq -rs --arg bits "$bits" 'def mean: add / length; def short: . * 1000 | round / 1000;
        [.[].errors.layers] | transpose[] | "| \($bits) | \(.[0].name) | \(map(.weights.kolmogorov) | mean | short) | " +
        "\(map(.activations.kolmogorov) | mean | short) | \(map(.relative_ratio) | mean | short) |"' "${files[@]}"
done
