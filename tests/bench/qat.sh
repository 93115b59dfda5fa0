#!/usr/bin/env bash
# What quantization-aware training keeps in few bits: CNN-2 on Fashion-MNIST and, where its folder is given, MNIST, in fp32
# and with W8A8, W4A4 and W2A2 in the forward pass (gradients in bf16), ranges by MinMax or trained (LSQ), beside
# post-training quantization of the fp32 models. 10 IID clients, fp32 on the wire, static ranges of 100 training images.
# Prints accuracy and the paired difference with fp32, mean and standard error over the seeds, as Markdown tables.
#
#     tests/bench/qat.sh OUT [MNIST_FOLDER]          ROUNDS, SEEDS, LIMIT, BIN, WORKERS: tests/bench/study.sh
here=$(cd "$(dirname "$0")" && pwd)
[ $# -ge 1 ] || { echo "usage: tests/bench/qat.sh OUT [MNIST_FOLDER]" >&2; exit 2; }
out=$(realpath -m "$1")
mnist=${2:+$(realpath "$2")}
source "$here/study.sh"
widths=(8 4 2)
few=(--set precision.policy=uniform --set precision.bits=16)
lsq=(--set quantize.weights.observer=lsq --set quantize.activations.observer=lsq)

forward() { echo "--set quantize.weights.bits=$1 --set quantize.activations.bits=$1"; }

study() {  # NAME OVERRIDES...
    local folder=$out/$1 seed bits observer
    shift
    for seed in $(seq "$seeds"); do
        train "$folder/fp32-$seed" "$seed" "$@" --set precision.policy=fp32
        score "$folder/fp32-$seed" fp32
        for bits in "${widths[@]}"; do
            train "$folder/minmax-$bits-$seed" "$seed" "$@" "${few[@]}" $(forward "$bits")
            score "$folder/minmax-$bits-$seed" own
            [ "$bits" -eq 8 ] || train "$folder/lsq-$bits-$seed" "$seed" "$@" "${few[@]}" $(forward "$bits") "${lsq[@]}"
            [ "$bits" -eq 8 ] || score "$folder/lsq-$bits-$seed" own
            for observer in minmax percentile mse; do
                score "$folder/fp32-$seed" "$observer-$bits" --weights "$bits" --activations "$bits" --observer "$observer"
            done
            score "$folder/fp32-$seed" "per-tensor-$bits" --weights "$bits" --activations "$bits" --observer mse \
                --scheme per_tensor_symmetric
        done
    done
}

row() { printf '| %s | %s | %s |\n' "$1" "$(echo "$2" | moments)" "$(paired "$2" "$full")"; }

report() {  # NAME
    local folder=$out/$1 full bits
    full=$(column "$folder" fp32 fp32 fp32)
    echo
    echo "$1, $rounds rounds, $seeds seeds:"
    echo
    echo '| forward pass | accuracy | against fp32, paired |'
    echo '|---|---|---|'
    row fp32 "$full"
    for bits in "${widths[@]}"; do
        row "W${bits}A$bits trained, MinMax" "$(column "$folder" "minmax-$bits" own quantized)"
        [ "$bits" -eq 8 ] || row "W${bits}A$bits trained, LSQ" "$(column "$folder" "lsq-$bits" own quantized)"
        row "W${bits}A$bits after training, MinMax per channel" "$(column "$folder" fp32 "minmax-$bits" quantized)"
        row "W${bits}A$bits after training, percentile per channel" "$(column "$folder" fp32 "percentile-$bits" quantized)"
        row "W${bits}A$bits after training, MSE per channel" "$(column "$folder" fp32 "mse-$bits" quantized)"
        row "W${bits}A$bits after training, MSE per tensor" "$(column "$folder" fp32 "per-tensor-$bits" quantized)"
    done
    echo
    for bits in 4 2; do
        echo "LSQ against MinMax, both trained, W${bits}A$bits: $(paired "$(column "$folder" "lsq-$bits" own quantized)" \
            "$(column "$folder" "minmax-$bits" own quantized)")"
    done
}

study fashion-mnist
[ -z "$mnist" ] || study mnist --set data.path="$mnist"
report fashion-mnist
[ -z "$mnist" ] || report mnist
