#!/usr/bin/env bash
# What rules of aggregation make of attacks: an MLP of 128 on MNIST (or, without --mnist, on Fashion-MNIST), 100 clients
# that are all asked in each of 50 rounds, Dirichlet 0.5, 20 of them attackers, which the rules are told; one epoch of
# batches of 32 a round, SGD, everything in 8 bits but the wire. Prints the final accuracy in percent as a Markdown table,
# rules down, "+ NNM" with nearest-neighbour mixing, clipped_mean the mean that is the default and mean that without
# its bound on norms, attacks across; the column `none` is what a rule costs where nobody
# lies. Nobody guards the model (precision.guard_loss), so that the table speaks of the rules. A star marks a rule of which
# a run could not go on; its accuracy is the last that it had. The runs are kept in OUT.
#
# How hard an attack is (federation.attack.scale): gaussian 10; alie 1.5; alie_far 8, deviations that no statistic
# should overlook; sign_flip 5; ipm 0.5.
#
#     tests/bench/robust.sh OUT [--mnist FOLDER] [--rules "mean median krum+nnm"] [--attacks "none gaussian alie"]
#
# SEEDS, BIN, WORKERS, LIMIT, EXTRA: tests/bench/study.sh
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
[ $# -ge 1 ] || { echo "usage: tests/bench/robust.sh OUT [--mnist FOLDER] [--rules LIST] [--attacks LIST]" >&2; exit 2; }
out=$(realpath -m "$1")
shift
data=
rules="mean clipped_mean median trimmed_mean krum multi_krum bulyan geometric_median centered_clipping
    median+nnm trimmed_mean+nnm krum+nnm multi_krum+nnm bulyan+nnm geometric_median+nnm centered_clipping+nnm"
attacks="none gaussian alie alie_far sign_flip label_flip ipm mimic"
while [ $# -gt 0 ]; do
    case $1 in
        --mnist) data="--set data.path=$(realpath "$2")" ;;
        --rules) rules=$2 ;;
        --attacks) attacks=$2 ;;
        *) echo "unknown option $1" >&2; exit 2 ;;
    esac
    shift 2
done
COUNT_FAILED=1
ROUNDS=${ROUNDS:-50}
source "$here/study.sh"
common+=($data --set job.evaluate_every=5 --set federation.clients=100 --set federation.cohort=100
    --set federation.partition.kind=dirichlet --set federation.partition.alpha=0.5 --set model.name=mlp
    --set model.hidden=[128] --set train.optimizer.lr=0.02 --set precision.policy=uniform --set precision.bits=8
    --set precision.guard_loss=0)

rule_of() {
    case $1 in
        mean) echo "--set federation.aggregation.kind=mean --set federation.aggregation.clip=0" ;;
        clipped_mean) echo "--set federation.aggregation.kind=mean" ;;
        *+nnm) echo "--set federation.aggregation.kind=${1%+nnm} --set federation.aggregation.mixing=true" ;;
        *) echo "--set federation.aggregation.kind=$1" ;;
    esac
}

attack_of() {
    local scale=1
    case $1 in
        gaussian) scale=10 ;;
        alie) scale=1.5 ;;
        alie_far) scale=8 ;;
        sign_flip) scale=5 ;;
        ipm) scale=0.5 ;;
    esac
    echo "--set federation.attack.kind=${1%_far} --set federation.attack.scale=$scale"
}

accuracies() {  # RULE ATTACK: in percent, one line a seed
    local seed
    for seed in $(seq "$seeds"); do
        jq -es 'map(.test_accuracy | select(. != null)) | last * 100' "$out/$1-$2-$seed/rounds.jsonl" ||
            fail "no accuracy in $out/$1-$2-$seed"
    done
}

for seed in $(seq "$seeds"); do
    for attack in $attacks; do
        for rule in $rules; do
            train "$out/$rule-$attack-$seed" "$seed" $(rule_of "$rule") $(attack_of "$attack")
        done
    done
done

echo "| rule | $(sed 's/ / | /g' <<<"$(echo $attacks)") |"
echo "|---|$(for _ in $attacks; do echo -n '---|'; done)"
for rule in $rules; do
    printf '| %s |' "${rule/+nnm/ + NNM}"
    for attack in $attacks; do
        star=$(ls "$out/$rule-$attack"-*/failed >/dev/null 2>&1 && echo '*' || true)
        printf ' %s%s |' "$(accuracies "$rule" "$attack" | moments '%.1f')" "$star"
    done
    echo
done
