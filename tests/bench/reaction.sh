#!/usr/bin/env bash
# The controller in a federation of 20 clients, IID and Dirichlet 0.3, CNN-2 on Fashion-MNIST: how its plan answers to what
# the nodes report. Runs: honest; conv2's gradients reported a tenth as large from the middle of the run on (a smaller
# signal: it must ask for more bits); a fifth of the clients lying by a factor of 1000, with plain means, clipped means and
# medians. Prints, as Markdown, mean bits of the two halves, the share of widths (rounds x layers x phases) that differ from
# the honest run of the same seed, and accuracy.
#
#     tests/bench/reaction.sh OUT          SEEDS, ROUNDS, LIMIT, BIN, WORKERS, EXTRA: tests/bench/study.sh
here=$(cd "$(dirname "$0")" && pwd)
[ $# -eq 1 ] || { echo "usage: tests/bench/reaction.sh OUT" >&2; exit 2; }
out=$(realpath -m "$1")
ROUNDS=${ROUNDS:-16} LIMIT=${LIMIT:-20000}
source "$here/study.sh"
levels=(--set federation.clients=20 --set precision.curvature_every=2 --set precision.levels=[2,3,4,6,8,16,32])

half() {  # RUN first|second: mean bits of forward and backward work
    jq -s --arg half "$2" '(length / 2) as $m | (if $half == "first" then .[:$m] else .[$m:] end)
        | map(.mean_bits) | add / length' "$1/rounds.jsonl"
}
widths() { jq '.layers[].bits | .forward, .backward' "$1/rounds.jsonl"; }
differ() { paste <(widths "$1") <(widths "$2") | awk '{n += $1 != $2} END {print 100 * n / NR}'; }
each() { for seed in $(seq "$seeds"); do "$@"; done | moments; }
bits_of() { half "$out/$1-$seed" "$2"; }
moved() { differ "$out/$1-$seed" "$out/$2-$seed"; }
accuracy_of() { jq '.final_accuracy * 100' "$out/$1-$seed/summary.json"; }

echo '| clients | reports | statistics | bits, first half | bits, second half | widths that differ from the honest plan, % | accuracy |'
echo '|---|---|---|---|---|---|---|'
row() {  # NAME HONEST SPLIT REPORTS COMBINE OPTIONS...
    local name=$1 honest=$2 split=$3 reports=$4 combine=$5 seed
    shift 5
    local partition=(--set federation.partition.kind=iid)
    [ "$split" = IID ] || partition=(--set federation.partition.kind=dirichlet --set federation.partition.alpha=0.3)
    for seed in $(seq "$seeds"); do
        PROGRAM=dither-bench-reaction train "$out/$name-$seed" "$seed" "${levels[@]}" "${partition[@]}" \
            --set precision.combine="$combine" "$@"
    done
    echo "| $split | $reports | $combine | $(each bits_of "$name" first) | $(each bits_of "$name" second)" \
        "| $(each moved "$name" "$honest") | $(each accuracy_of "$name") |"
}
lies=(--liars 0.2 --lie 1000)
scaled=(--scale conv2=0.1 --from $((rounds / 2 + 1)))
row iid iid IID honest clipped
row iid-scaled iid IID "conv2's gradient x 0.1" clipped "${scaled[@]}"
row iid-liars-mean iid IID "a fifth lie" mean "${lies[@]}"
row iid-liars-clipped iid IID "a fifth lie" clipped "${lies[@]}"
row iid-liars-median iid IID "a fifth lie" median "${lies[@]}"
row dirichlet dirichlet "Dirichlet 0.3" honest clipped
row dirichlet-scaled dirichlet "Dirichlet 0.3" "conv2's gradient x 0.1" clipped "${scaled[@]}"
row dirichlet-liars-clipped dirichlet "Dirichlet 0.3" "a fifth lie" clipped "${lies[@]}"
