#!/usr/bin/env bash
# What an update costs on the wire and in accuracy: codecs side by side, paired with raw fp32 seed by seed, on four jobs:
#
#     fashion-iid, fashion-skewed  CNN-2 on Fashion-MNIST, 30,000 images; skewed: Dirichlet 0.3
#     cifar-iid, cifar-skewed      resnet8 on CIFAR-10, 10,000 images (needs CIFAR-10's folder)
#
# 100 clients, 32 a round, one local epoch, local training in fp32, so that only the links differ. Prints, as Markdown:
# accuracy of the last model and of the mean over the last five evaluations, paired difference with raw and its standard
# error, bits a coordinate up and down, megabytes of the run (both directions, everything on the wire: first contact,
# missed broadcasts and framing included) and how many times fewer that is than raw fp32. Then accuracy per megabyte,
# round by round, in OUT/curves.tsv, and as OUT/bytes.png where gnuplot is there. The runs are kept in OUT.
#
#     tests/bench/bytes.sh OUT [--cifar FOLDER] [--jobs "fashion-iid"] [--only "raw grid-0.1"]
#
# A row is a codec and, where it has one, the bits a coordinate that the uplink is given: grid-0.1, eden-1, trellis-0.5.
# Deltas come down on the grid, at the uplink's rate where that is a grid and at DOWN (0.1) bits a coordinate else.
# SEEDS, BIN, WORKERS, ROUNDS (75), EXTRA: tests/bench/study.sh
here=$(cd "$(dirname "$0")" && pwd)
usage="usage: tests/bench/bytes.sh OUT [--cifar FOLDER] [--jobs LIST] [--only LIST]"
[ $# -ge 1 ] || { echo "$usage" >&2; exit 2; }
out=$(realpath -m "$1")
shift
cifar= jobs="fashion-iid fashion-skewed cifar-iid cifar-skewed"
only="raw grid-0.4 grid-0.2 grid-0.1 grid-0.05 grid bf16 fp16 qsgd-4 terngrad sign topk-0.01 eden-1 eden-0.5 trellis-1 trellis-0.5"
while [ $# -gt 0 ]; do
    case $1 in
        --cifar) cifar=$(realpath "$2") ;;
        --jobs) jobs=$2 ;;
        --only) only=$2 ;;
        *) echo "unknown option $1; $usage" >&2; exit 2 ;;
    esac
    shift 2
done
export ROUNDS=${ROUNDS:-75}
source "$here/study.sh"
down=${DOWN:-0.1}

job_of() {  # JOB: its options
    local options="--set federation.clients=100 --set federation.cohort=32 --set precision.policy=fp32
        --set job.evaluate_every=5 --set codec.uplink.kind=grid --set codec.downlink.kind=grid"
    case $1 in
        fashion-*) options+=" --set data.limit=30000" ;;
        cifar-*) options+=" --set data.limit=10000 --set model.name=resnet8 --set data.format=cifar
            --set data.path=$cifar --set data.augment=crop_flip" ;;
    esac
    case $1 in
        *-skewed) options+=" --set federation.partition.kind=dirichlet --set federation.partition.alpha=0.3" ;;
    esac
    echo "$options"
}

options_of() {  # ROW: its options
    local kind=${1%%-*} number=
    [ "$kind" = "$1" ] || number=${1#*-}
    case $kind in
        raw) echo "--set codec.uplink.kind=raw --set codec.downlink.kind=raw" ;;
        grid) [ -z "$number" ] || echo "--set codec.uplink.rate=${number%/*} --set codec.downlink.rate=${number#*/}" ;;
        qsgd) echo "--set codec.uplink.kind=qsgd --set codec.uplink.bits=$number --set codec.downlink.rate=$down" ;;
        topk) echo "--set codec.uplink.kind=topk --set codec.uplink.share=$number --set codec.downlink.rate=$down" ;;
        eden | trellis) echo "--set codec.uplink.kind=$kind --set codec.uplink.rate=$number --set codec.downlink.rate=$down" ;;
        *) echo "--set codec.uplink.kind=$kind --set codec.downlink.rate=$down" ;;
    esac
}

for job in $jobs; do
    case $job in
        cifar-*) [ -n "$cifar" ] || { echo "$job: skipped, no --cifar" >&2; continue; } ;;
    esac
    for seed in $(seq "$seeds"); do
        for row in $only; do
            train "$out/$job/${row/\//_}-$seed" "$seed" $(job_of "$job") $(options_of "$row")
        done
    done
done
python3 "$here/bytes_report.py" "$out"
