#!/usr/bin/env bash
# A trained model is evaluated at full precision and in few bits, on clean and corrupted images; it is converted, and the
# converted file says the same. Whatever is wrong with a command is said by name, with exit code 2.
source "$(dirname "$0")/lib.sh"

evaluate() { "$bin/dither-evaluate" "$@"; }
# expect FILTER FILE: the JSON in FILE must satisfy FILTER.
expect() { jq -e "$1" "$2" >/dev/null || fail "not so: $1 in $(jq -c 'del(.layers, .errors)' "$2")"; }
bytes() { awk '{for (i = 1; i <= NF; ++i) printf "\\0%o", $i}' | xargs -0 printf '%b'; }

# Images of 8x8 in 4 classes, one bright quadrant each, from a fixed linear congruence.
images() {  # COUNT LABELS|PIXELS
    awk -v count="$1" -v what="$2" 'BEGIN {
        x = 4711
        for (i = 0; i < count; ++i) {
            label = i % 4
            if (what == "LABELS")
                printf "%d ", label
            else
                for (y = 0; y < 8; ++y)
                    for (z = 0; z < 8; ++z) {
                        x = (1103515245 * x + 12345) % 2147483648
                        printf "%d ", x / 2147483648 * 120 + (int(y / 4) * 2 + int(z / 4) == label ? 70 : 0)
                    }
        }
    }'
}
idx=$work/idx
mkdir "$idx"
make_split() {  # NAME COUNT
    { echo "0 0 8 3 0 0 $(($2 / 256)) $(($2 % 256)) 0 0 0 8 0 0 0 8 "; images "$2" PIXELS; } | bytes \
        >"$idx/$1-images-idx3-ubyte"
    { echo "0 0 8 1 0 0 $(($2 / 256)) $(($2 % 256)) "; images "$2" LABELS; } | bytes >"$idx/$1-labels-idx1-ubyte"
}
make_split train 400
make_split t10k 120

cat >"$work/images.toml" <<JOB
[job]
name = "quadrants"
rounds = 2
[data]
path = "$idx"
[federation]
clients = 4
cohort = 4
[train]
batch_size = 16
[precision]
policy = "uniform"
bits = 8
JOB
simulate "$work/images.toml" --out "$work/w8" >/dev/null
simulate "$work/images.toml" --out "$work/full" --set precision.policy=fp32 >/dev/null
w8=$work/w8/model.dither
full=$work/full/model.dither

# Without options: as the run was trained.
evaluate "$w8" --json >"$work/w8.json"
expect '.kind == "checkpoint" and .name == "quadrants" and .round == 2 and .samples == 120' "$work/w8.json"
expect '.fp32.accuracy > 0.5 and .quantized.accuracy > 0.5 and .quantized.loss != .fp32.loss' "$work/w8.json"
expect '[.layers[] | .weight_bits == 8 and .activation_bits == 8] | all and length == 4' "$work/w8.json"
expect '.quantized.bit_ops == .macs * 64 and .fp32.bit_ops == .macs * 1024' "$work/w8.json"
expect '.quantized.energy_estimate_joules.arithmetic * 10 < .fp32.energy_estimate_joules.arithmetic' "$work/w8.json"
expect '.fp32.bytes == 4 * .parameters and .quantized.bytes < 0.3 * .fp32.bytes' "$work/w8.json"
expect '.fp32.latency_seconds > 0 and .fp32.samples_per_second > 0 and .quantized.latency_seconds > 0' "$work/w8.json"
evaluate "$w8" | grep -qE 'accuracy +[0-9.]+ % +[0-9.]+ %' || fail "no accuracy in the table"

# At full precision the score is the run's own.
evaluate "$full" --json >"$work/full.json"
expect '.quantized == null' "$work/full.json"
[ "$(jq .fp32.accuracy "$work/full.json")" = "$(jq .final_accuracy "$work/full/summary.json")" ] || fail "another fp32 accuracy"

# Post-training quantization, the same each time.
evaluate "$full" --json --weights 4 --activations 6 --observer mse --scheme per_tensor_symmetric --calibration 50 >"$work/ptq.json"
expect '[.layers[] | .weight_bits == 4 and .activation_bits == 6 and .weights_scheme == "per_tensor_symmetric" and
    .activations_observer == "mse"] | all' "$work/ptq.json"
expect '.calibration_samples == 50 and .quantized.bytes < 0.2 * .fp32.bytes' "$work/ptq.json"
evaluate "$full" --json --weights 4 --activations 6 --observer mse --scheme per_tensor_symmetric --calibration 50 >"$work/again.json"
still='del(.fp32.latency_seconds, .fp32.samples_per_second, .quantized.latency_seconds, .quantized.samples_per_second)'
[ "$(jq "$still" "$work/ptq.json")" = "$(jq "$still" "$work/again.json")" ] || fail "a second evaluation differs"
evaluate "$full" --json --weights 3 >"$work/weights.json"
expect '[.layers[] | .weight_bits == 3 and .activation_bits == 32] | all' "$work/weights.json"
expect '(.no_integer_form | length) > 0 and .quantized.latency_seconds == null' "$work/weights.json"
evaluate "$full" --json --limit 10 --batch 3 >"$work/few.json"
expect '.samples == 10 and .batch == 3' "$work/few.json"

# Corrupted images.
evaluate "$w8" --json --corrupt all=3 --corrupt blur=5 >"$work/corrupt.json"
expect '[.corruptions[].kind] == ["gaussian_noise", "blur", "contrast", "brightness", "shift", "blur"]' "$work/corrupt.json"
expect '[.corruptions[] | .fp32.accuracy, .quantized.accuracy | type == "number"] | all' "$work/corrupt.json"
expect '.corruptions[5].severity == 5 and .corruptions[5].fp32.loss != .fp32.loss' "$work/corrupt.json"

# Flatness: the loss itself at radius 0, and the largest of the layers' Hessians.
evaluate "$full" --json --flatness 2 >"$work/flatness.json"
expect '.flatness | .directions == 2 and .loss_rise[0] == 0 and (.loss | length) == (.radii | length)' "$work/flatness.json"
expect '(.flatness.loss[0] - .fp32.loss | fabs) < 1e-9' "$work/flatness.json"
expect '.flatness | .hessian_norm > 0 and .hessian_norm == ([.layers[].hessian_norm] | max)' "$work/flatness.json"

# Rounding errors against the Gaussian.
evaluate "$full" --json --errors 4 >"$work/errors.json"
expect '.errors.bits == 4 and (.errors.layers | length) == 4' "$work/errors.json"
expect '[.errors.layers[].weights | .kolmogorov > 0 and ((.share | add) - 1 | fabs) < 1e-6] | all' "$work/errors.json"

# The converted model: every sample has the same bits, and its file says the same alone.
for bits in 8 4; do
    evaluate "$w8" --json --weights $bits --activations $bits --convert "$work/small-$bits.dither" --corrupt shift=2 \
        --set job.seed=$bits >"$work/converted.json"
    expect '.converted.identical == 120 and .converted.compared == 120' "$work/converted.json"
    [ "$(stat -c %s "$work/small-$bits.dither")" = "$(jq .converted.bytes "$work/converted.json")" ] || fail "another size"
    evaluate "$work/small-$bits.dither" --data "$idx" --json --corrupt shift=2 >"$work/small.json"
    expect '.kind == "integer" and .fp32 == null and .samples == 120 and (.corruptions | length) == 1' "$work/small.json"
    [ "$(jq .quantized.accuracy "$work/small.json")" = "$(jq .quantized.accuracy "$work/converted.json")" ] ||
        fail "the converted model has another accuracy at $bits bits"
    shifted='.corruptions[0].quantized.loss * 1e6 | round'
    [ "$(jq "$shifted" "$work/small.json")" = "$(jq "$shifted" "$work/converted.json")" ] ||
        fail "the converted model sees other corrupted images at $bits bits"
done
# Ranges that were trained with the weights are the ones that it is converted with.
simulate "$work/images.toml" --out "$work/lsq" --set quantize.weights.bits=4 --set quantize.activations.bits=4 \
    --set quantize.weights.observer=lsq --set quantize.activations.observer=lsq >/dev/null
evaluate "$work/lsq/model.dither" --json --convert "$work/lsq.dither" >"$work/lsq.json"
expect '.converted.identical == 120 and ([.layers[] | .weight_bits == 4 and .activations_observer == "lsq"] | all)' "$work/lsq.json"
evaluate "$work/lsq/model.dither" --json --observer minmax >"$work/lsq-ptq.json"
expect '.quantized.loss != '"$(jq .quantized.loss "$work/lsq.json")" "$work/lsq-ptq.json"

# The averaged model is the one that counts, unless the last one is asked for.
simulate "$work/images.toml" --out "$work/swa" --set train.swa_start=1 --set precision.policy=fp32 >/dev/null
evaluate "$work/swa/model.dither" --json >"$work/swa.json"
expect '.averaged and .fp32.accuracy == '"$(jq .swa_accuracy "$work/swa/summary.json")" "$work/swa.json"
evaluate "$work/swa/model.dither" --json --no-average >"$work/last.json"
expect '(.averaged | not) and .fp32.loss == '"$(jq .fp32.loss "$work/full.json")" "$work/last.json"

evaluate "$work/small-8.dither" --data "$idx" | grep -q 'converted' || fail "no table of a converted model"

# A path may have any bytes; JSON is UTF-8.
ln -s "$idx" "$work/"$'data-\xff'
evaluate "$work/small-8.dither" --data "$work/"$'data-\xff' --json >"$work/bytes.json"
expect '.data | test("data-\ufffd")' "$work/bytes.json"

# A table of numbers has no images; everything else holds.
simulate "$work/job.toml" --out "$work/table" --set job.rounds=1 >/dev/null
evaluate "$work/table/model.dither" --json --weights 8 --activations 8 >"$work/table.json"
expect '(.quantized.accuracy | type) == "number" and .converted.bytes > 0' "$work/table.json"

[ "$(evaluate --version | head -c 15)" = 'dither-evaluate' ] || fail "--version"
evaluate --help | grep -q 'Exit codes' || fail "--help"
bad() { refuses 2 "$1" evaluate "${@:2}"; }
bad 'MODEL'
bad 'no-such\.dither: cannot open.*expected' "$work/no-such.dither"
bad 'job\.toml: expected a run.s model\.dither' "$work/job.toml"
head -c 300 "$w8" >"$work/short.dither"
bad 'short\.dither.*truncated' "$work/short.dither"
head -c 90 "$work/small-8.dither" >"$work/short-small.dither"
bad 'short-small\.dither: expected' "$work/short-small.dither"
bad 'fog=1.*gaussian_noise.*SEVERITY of 1 \.\. 5' "$w8" --corrupt fog=1
bad 'blur=6.*1 \.\. 5' "$w8" --corrupt blur=6
bad 'only images' "$work/table/model.dither" --corrupt blur=1
bad '--weights.*2 \.\. 16 or 32, found 1' "$w8" --weights 1
bad '--activations.*2 \.\. 16 or 32, found 17' "$w8" --activations 17
bad '--observer.*minmax.*percentile.*median' "$w8" --weights 8 --observer median
bad 'learned ranges need' "$w8" --set quantize.weights.observer=lsq
bad '--observer: expected.*lsq' "$w8" --weights 8 --observer lsq
bad '--scheme.*per_channel_symmetric.*per_pixel' "$w8" --weights 8 --scheme per_pixel
bad '--calibration: expected at most the 400' "$w8" --calibration 401
bad '--errors' "$w8" --errors 9
bad '--flatness' "$w8" --flatness 0
bad '--limit' "$w8" --limit -1
bad '--observer: expected --weights or --activations too: the run is fp32' "$full" --observer mse
bad '--scheme: expected --weights or --activations too: the run is fp32' "$full" --scheme per_tensor_symmetric
bad '--convert .*no-such-folder/small: expected a file in a folder' "$w8" --convert "$work/no-such-folder/small"
bad '--convert .*: expected a file, found a folder' "$w8" --convert "$work"
bad 'frobnicate' "$w8" --frobnicate
bad 'no-such-data' "$w8" --data "$work/no-such-data"
bad 'needs images|has the shape' "$w8" --data "$work/table.csv" --set data.format=csv
bad 'quantise' "$w8" --set quantise.weights.bits=4
bad '--convert: expected a quantized' "$full" --convert "$work/never"
bad 'conv1.*12 bits' "$full" --weights 12 --activations 12 --convert "$work/never"
bad 'expected --data' "$work/small-8.dither"
for options in '--weights 4' '--observer mse' '--scheme per_tensor_symmetric' '--calibration 100' '--no-average' \
    '--set quantize.weights.bits=4'; do
    bad 'expected a checkpoint for .*'"${options%% *}" "$work/small-8.dither" --data "$idx" $options
done
bad '--data .*no-such-data: expected' "$work/small-8.dither" --data "$work/no-such-data"
bad 'table\.csv.*expected' "$work/small-8.dither" --data "$work/table.csv"
[ ! -e "$work/never" ] || fail "wrote something"
