#!/usr/bin/env bash
# What a strategy makes of clients that differ: CNN-2 on Fashion-MNIST, 30,000 images dealt to 100 clients by Dirichlet 0.3,
# 10 of them a round. Prints, as Markdown: rounds until the test accuracy was 80 % for the first time, in how many of the
# runs it was, and the accuracy of the last model and of the mean over the last five rounds, each with its standard error.
#
#     tests/bench/strategies.sh OUT [--only "fedavg fedadam"]
#
# SEEDS (3), BIN, WORKERS, ROUNDS (40), LIMIT, EXTRA: tests/bench/study.sh
here=$(cd "$(dirname "$0")" && pwd)
usage="usage: tests/bench/strategies.sh OUT [--only LIST]"
[ $# -eq 1 ] || [ $# -eq 3 -a "${2:-}" = --only ] || { echo "$usage" >&2; exit 2; }
out=$(realpath -m "$1")
only=${3:-fedavg uniform fedprox fedavgm fedadagrad fedadam fedyogi fednova plain scaffold}
SEEDS=${SEEDS:-3} ROUNDS=${ROUNDS:-40} LIMIT=${LIMIT:-30000}
source "$here/study.sh"

# The server's rates are the best on the first seed, by the mean of the last five rounds: of 1, 0.3 and 0.1 for fedavgm, and of
# 0.1, 0.03, 0.01 and 0.003 for the adaptive ones. RATE tries another.
options_of() {
    case $1 in
        fedavg | fednova) echo "--set federation.strategy.kind=$1" ;;
        uniform) echo "--set federation.strategy.weights=uniform" ;;
        fedprox) echo "--set train.proximal=0.1" ;;
        fedavgm) echo "--set federation.strategy.kind=$1 --set federation.strategy.server_lr=${RATE:-0.3}" ;;
        fedadagrad) echo "--set federation.strategy.kind=$1 --set federation.strategy.server_lr=${RATE:-0.1}" ;;
        # Control variates are for plain sgd: both without momentum, at one rate. RATE tries another.
        plain) echo "--set train.optimizer.momentum=0 --set train.optimizer.lr=${RATE:-0.1}" ;;
        scaffold) echo "--set federation.strategy.kind=$1 $(options_of plain)" ;;
        fedadam | fedyogi) echo "--set federation.strategy.kind=$1 --set federation.strategy.server_lr=${RATE:-0.01}" ;;
        *) echo "unknown row $1; $usage" >&2; exit 2 ;;
    esac
}

first_at() {  # RUN: the first round with 80 %, or nothing
    jq -s 'map(select(.test_accuracy >= 0.8)) | first | .round // empty' "$1/rounds.jsonl"
}
last() { jq '.final_accuracy * 100' "$1/summary.json"; }
late() { jq -s '.[-5:] | map(.test_accuracy * 100) | add / length' "$1/rounds.jsonl"; }
each() { for seed in $(seq "$seeds"); do "$1" "$out/$row-$seed"; done; }

echo '| strategy | rounds to 80 % | runs that got there | accuracy, last | mean of the last five |'
echo '|---|---|---|---|---|'
for row in $only; do
    options=$(options_of "$row")
    for seed in $(seq "$seeds"); do
        train "$out/$row-$seed" "$seed" --set federation.clients=100 --set job.evaluate_every=1 \
            --set precision.policy=fp32 --set federation.partition.kind=dirichlet --set federation.partition.alpha=0.3 \
            --set train.schedule.kind=constant $options
    done
    arrived=$(each first_at)
    count=$(grep -c . <<<"$arrived" || true)
    rounds_to=-
    [ "$count" -eq 0 ] || rounds_to=$(moments %.1f <<<"$arrived")
    echo "| $row | $rounds_to | $count of $seeds | $(each last | moments) | $(each late | moments) |"
done
