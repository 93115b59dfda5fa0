#!/usr/bin/env bash
# What adapting the bits is worth: policies and constant plans side by side, paired with fp32 seed by seed, on four jobs:
#
#     fashion  CNN-2 on Fashion-MNIST, 12 rounds of 15,000 images
#     cnn2     CNN-2 on MNIST, the same                               (needs MNIST's folder)
#     cnn4     CNN-4 on Fashion-MNIST, 6 rounds of 6,000 images
#     resnet8  resnet8 on CIFAR-10, 10 rounds of 5,000 images         (needs CIFAR-10's folder)
#
# Cosine schedule, clients IID, fp32 on the wire: only the local phases differ. Prints, as Markdown: accuracy with the
# quantized forward pass of the last plan, its standard error and the deviation over the seeds, the paired difference with
# fp32, bit-operations (measurements included) as a share of fp32's, BOPs likewise, the training loss at a client's step
# 1000, abandoned rounds, runs that failed (gave up, or ended more than 10 points below), and changes of the plan. A star
# marks the Pareto front of all rows. Then the schedules and what the bits follow. The runs are kept in OUT.
#
#     tests/bench/precision.sh OUT [--mnist FOLDER] [--cifar FOLDER] [--models "cnn2 cnn4"] [--only "fp32 8/8 numgeom"]
#
# SEEDS, BIN, WORKERS, EXTRA: tests/bench/study.sh
here=$(cd "$(dirname "$0")" && pwd)
[ $# -ge 1 ] || { echo "usage: tests/bench/precision.sh OUT [--mnist FOLDER] [--cifar FOLDER] [--models LIST] [--only LIST]" >&2; exit 2; }
out=$(realpath -m "$1")
shift
mnist= cifar= models="fashion cnn2 cnn4 resnet8" only=
while [ $# -gt 0 ]; do
    case $1 in
        --mnist) mnist=$(realpath "$2") ;;
        --cifar) cifar=$(realpath "$2") ;;
        --models) models=$2 ;;
        --only) only=$2 ;;
        *) echo "unknown option $1" >&2; exit 2 ;;
    esac
    shift 2
done
COUNT_FAILED=1
source "$here/study.sh"
fine=--set\ precision.levels=[2,3,4,6,8,16,32]
constants=(8/8 8/4 6/4 4/4 3/3 2/2)
policies=(fp16 amp gradient curvature hawq learned numgeom numgeom-fine numgeom-loose numgeom_literal)

job_of() {  # MODEL: its options
    local small="--set federation.clients=20 --set federation.cohort=10" wide="--set federation.clients=8 --set federation.cohort=4"
    case $1 in
        fashion) echo "$small --set job.rounds=12 --set data.limit=30000" ;;
        cnn2) echo "$small --set job.rounds=12 --set data.limit=30000 --set data.path=$mnist" ;;
        cnn4) echo "$wide --set job.rounds=6 --set data.limit=12000 --set model.name=cnn4 --set train.optimizer.lr=0.02" ;;
        resnet8) echo "$wide --set job.rounds=10 --set data.limit=10000 --set model.name=resnet8 --set data.format=cifar
            --set data.path=$cifar --set data.augment=crop_flip" ;;
    esac
}

options_of() {  # ROW: its options
    case $1 in
        fp32) echo "--set precision.policy=fp32" ;;
        fp16) echo "--set precision.policy=uniform --set precision.bits=16 --set quantize.format16=fp16" ;;
        */*) echo "--set precision.policy=uniform $fine --set precision.bits=${1%/*} --set precision.backward_bits=${1#*/}
            --set quantize.optimizer_bits=8" ;;
        hawq) echo "--set precision.policy=hawq $fine --set precision.bit_budget=4.8" ;;
        numgeom-fine) echo "--set precision.policy=numgeom $fine" ;;
        numgeom-loose) echo "--set precision.policy=numgeom $fine --set precision.target_error=0.8" ;;
        *) echo "--set precision.policy=$1" ;;
    esac
}

measuring() {  # MODEL: measurements in these short runs cost about 1 % of fp32's bit-operations
    case $1 in
        fashion | cnn2) echo "--set precision.curvature_every=6 --set precision.probe_samples=16" ;;
        cnn4) echo "--set precision.curvature_every=3 --set precision.probe_samples=16 --set precision.curvature_clients=1" ;;
        resnet8) echo "--set precision.curvature_every=5 --set precision.probe_samples=16 --set precision.curvature_clients=1" ;;
    esac
}

rows() { if [ -n "$only" ]; then echo "$only"; else echo "fp32 ${constants[*]} ${policies[*]}"; fi; }
study() {  # MODEL
    local row seed
    for seed in $(seq "$seeds"); do
        for row in $(rows); do
            case $row in
                fp32 | fp16 | amp | */*) train "$out/$1/${row/\//-}-$seed" "$seed" $(job_of "$1") $(options_of "$row") ;;
                *) train "$out/$1/$row-$seed" "$seed" $(job_of "$1") $(measuring "$1") $(options_of "$row") ;;
            esac
        done
    done
}
for model in $models; do
    [ "$model" != cnn2 ] || [ -n "$mnist" ] || { echo "cnn2: skipped, no --mnist" >&2; continue; }
    [ "$model" != resnet8 ] || [ -n "$cifar" ] || { echo "resnet8: skipped, no --cifar" >&2; continue; }
    study "$model"
done
python3 "$here/precision_report.py" "$out"
