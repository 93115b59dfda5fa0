#!/usr/bin/env bash
# A plan of 8 bits trains the same model everywhere: model_sha256 does not depend on the processor's instruction set nor
# on compute.backend, so clients of different machines may share one run, and a run may be checked on another machine.
#
# That holds where every product of a plan runs on integers: widths of up to 8 bits in every pass, `int8`,
# `quantize.execution = "integer"` and the schemes that have an integer form (core/README.md), here the defaults, with
# weight noise, and with batch norm, pools, softmax and both optimizers, which are fp32 in a fixed order. It does not hold
# for fp32 and 16-bit layers, simulated execution or policies that measure curvature: those sum products in fp32.
#
# The run is repeated on an emulated Nehalem, which has SSE4.2 and no AVX, where there is qemu-x86_64 (Debian's qemu-user).
source "$(dirname "$0")/lib.sh"

# Images of 12 x 12 bytes in 4 classes: noise (Park and Miller 1988) with one quarter bright.
make_images() {  # COUNT SEED IMAGES LABELS
    local octal
    octal=$(awk -v count="$1" -v x="$2" 'BEGIN {
        printf "\\000\\000\\010\\003\\000\\000\\000\\%03o\\000\\000\\000\\014\\000\\000\\000\\014", count
        for (i = 0; i < count; ++i)
            for (p = 0; p < 144; ++p) {
                x = 16807 * x % 2147483647
                bright = int(p / 72) * 2 + int(p % 12 / 6) == i % 4
                printf "\\%03o", int(x / 16777216) + 100 * bright
            }
    }')
    printf '%b' "$octal" >"$3"
    octal=$(awk -v count="$1" 'BEGIN {
        printf "\\000\\000\\010\\001\\000\\000\\000\\%03o", count
        for (i = 0; i < count; ++i) printf "\\%03o", i % 4
    }')
    printf '%b' "$octal" >"$4"
}
mkdir "$work/images"
make_images 48 1 "$work/images/train-images-idx3-ubyte" "$work/images/train-labels-idx1-ubyte"
make_images 16 2 "$work/images/t10k-images-idx3-ubyte" "$work/images/t10k-labels-idx1-ubyte"

cat >"$work/job.toml" <<JOB
[job]
name = "everywhere"
rounds = 2
evaluate_every = 2
[data]
path = "$work/images"
[federation]
clients = 2
cohort = 2
[train]
batch_size = 8
[precision]
policy = "uniform"
bits = 8
[noise]
kind = "xi"
JOB

declare -A options=(
    [cnn2]=''
    [resnet8]='--set model.name=resnet8 --set train.optimizer.kind=adam --set train.optimizer.lr=0.002'
)

backends=(eigen)
if "$bin/dither-simulate" --quiet "$work/job.toml" --out "$work/probe" --set compute.backend=onednn \
    --set output.pictures=false >/dev/null 2>"$work/stderr"; then
    backends+=(onednn)
elif grep -q 'built without oneDNN' "$work/stderr"; then
    echo "skipped: backend onednn, which this program was built without"
else
    fail "backend onednn: $(head -3 "$work/stderr")"
fi

# compare MACHINE LAUNCHER...: every model must get the hash that it got on the first machine and backend.
declare -A first
compare() {
    local machine=$1 model backend folder
    shift
    for model in cnn2 resnet8; do
        for backend in "${backends[@]}"; do
            folder=$work/$machine-$model-$backend
            # Unquoted on purpose: options are words without blanks.
            "$@" "$bin/dither-simulate" --quiet --workers 1 "$work/job.toml" --out "$folder" ${options[$model]} \
                --set compute.backend="$backend" --set output.pictures=false >/dev/null 2>"$work/stderr" ||
                fail "$model on $machine with $backend ended with code $?: $(head -3 "$work/stderr")"
            printf '%-8s %-8s %-18s %.16s\n' "$model" "$machine" "$(backend_of "$folder")" "$(hash_of "$folder")"
            : "${first[$model]:=$folder}"
            same_model "$folder" "${first[$model]}"
        done
    done
}
backend_of() { jq -r .backend "$1/summary.json"; }
hashes_of() { jq -r '"round \(.round): \(.model_sha256)"' "$1/rounds.jsonl"; }
same_model() {  # FOLDER FOLDER
    [ "$(hash_of "$1")" = "$(hash_of "$2")" ] ||
        fail "the model depends on where it was trained: < ${1##*/}, $(backend_of "$1"); > ${2##*/}, $(backend_of "$2")" \
            $'\n'"$(diff <(hashes_of "$1") <(hashes_of "$2"))"
}

compare native env

if [ "$(uname -m)" != x86_64 ]; then
    echo "skipped: a Nehalem, on $(uname -m)"
elif ! command -v qemu-x86_64 >/dev/null; then
    echo "skipped: a Nehalem, without qemu-x86_64 (Debian's package qemu-user)"
elif grep -qE '__(asan|tsan)_init' "$bin/dither-simulate"; then
    echo "skipped: a Nehalem, because a sanitizer's shadow memory does not fit under qemu"
elif [ -n "${DITHER_NATIVE:-}" ]; then
    echo "skipped: a Nehalem, because the program was built for this processor alone"
else
    qemu-x86_64 -cpu Nehalem "$bin/dither-simulate" --version >"$work/version" 2>&1 ||
        fail "does not start on a Nehalem: $(head -3 "$work/version")"
    grep -q 'baseline' "$work/version" || fail "not the baseline's kernels on a Nehalem: $(cat "$work/version")"
    compare Nehalem qemu-x86_64 -cpu Nehalem
fi
