#!/usr/bin/env bash
# The main job under several precision policies, over seeds, paired with fp32 on the wire and in the arithmetic. Prints, as a
# Markdown table: accuracy after the last round, its mean over the last five rounds, the paired difference of that mean to
# fp32 (mean and standard error over the seeds), and bit-operations and bytes as shares of fp32. Finished runs in OUT are kept.
#
#     tests/bench/accuracy.sh OUT [SEEDS]
set -euo pipefail
cd "$(dirname "$0")/../.."
out=$1
seeds=${2:-5}
grid=(--set noise.kind=xi)
raw=(--set noise.kind=none --set codec.uplink.kind=raw --set codec.downlink.kind=raw)

run() {  # NAME SEED OVERRIDES...
    local dir=$out/$1-$2 seed=$2
    shift 2
    [ -s "$dir/summary.json" ] && return
    rm -rf "$dir"
    build/release/bin/dither-simulate examples/jobs/fashion_cnn2.toml --quiet --out "$dir" --set job.seed="$seed" \
        --set output.pictures=false "$@" >/dev/null
}
late() { jq -s '.[-5:] | map(.test_accuracy * 100) | add / length' "$1/rounds.jsonl"; }
# mean and deviation of the numbers on stdin
moments() { awk '{n++; s += $1; q += $1 * $1} END {m = s / n; d = n < 2 ? 0 : (q - n * m * m) / (n - 1); printf "%.3f %.3f", m, (d < 0 ? 0 : sqrt(d))}'; }
column() { for seed in $(seq "$seeds"); do jq "$2" "$out/$1-$seed/summary.json"; done | moments; }

names=(fp32 uniform8 uniform4 numgeom numgeom_literal)
for seed in $(seq "$seeds"); do
    run fp32 "$seed" "${raw[@]}" --set precision.policy=fp32
    run uniform8 "$seed" "${grid[@]}" --set precision.policy=uniform
    run uniform4 "$seed" "${grid[@]}" --set precision.policy=uniform --set precision.bits=4
    run numgeom "$seed" "${grid[@]}"
    run numgeom_literal "$seed" "${grid[@]}" --set precision.policy=numgeom_literal
done

echo '| policy | accuracy, last round | mean of the last 5 rounds | against fp32, paired | bit-operations | bytes |'
echo '|---|---|---|---|---|---|'
for name in "${names[@]}"; do
    last=$(column "$name" '.final_accuracy * 100')
    mean5=$(for seed in $(seq "$seeds"); do late "$out/$name-$seed"; done | moments)
    paired=$(for seed in $(seq "$seeds"); do
        echo "$(late "$out/$name-$seed") $(late "$out/fp32-$seed")"
    done | awk '{print $1 - $2}' | moments)
    ops=$(column "$name" '.bit_ops_ratio_fp32 * 100')
    bytes=$(column "$name" '100 / .compression_total')
    awk -v n="$name" -v l="$last" -v m="$mean5" -v p="$paired" -v o="$ops" -v b="$bytes" -v s="$seeds" 'BEGIN {
        split(l, L); split(m, M); split(p, P); split(o, O); split(b, B)
        printf "| %s | %.2f +- %.2f | %.2f +- %.2f | %+.2f +- %.2f | %.1f %% | %.1f %% |\n",
            n, L[1], L[2], M[1], M[2], P[1], P[2] / sqrt(s), O[1], B[1]
    }'
done
