#!/usr/bin/env bash
# What waiting for slow devices costs: an MLP on Fashion-MNIST, 100 clients whose speeds are log-normal (median 200 samples a
# second, sigma 1.5) behind links of 5 and 20 Mb/s. FedBuff (30 train at a time, a round each 10 updates) against synchronous
# rounds of 10, which wait for all, and of the first 10 of 13. Writes OUT/table.md: simulated time and rounds until the test
# accuracy was 80 % for the first time, the accuracy of the last model, and the simulated time of the whole run, each with its
# standard error. Every run has as many updates: ROUNDS * 10.
#
#     tests/bench/asynchronous.sh OUT [--seeds N]
#
# BIN, WORKERS, ROUNDS (40), LIMIT, EXTRA: tests/bench/study.sh
here=$(cd "$(dirname "$0")" && pwd)
usage="usage: tests/bench/asynchronous.sh OUT [--seeds N]"
[ $# -eq 1 ] || [ $# -eq 3 -a "${2:-}" = --seeds ] || { echo "$usage" >&2; exit 2; }
out=$(realpath -m "$1")
SEEDS=${3:-3} ROUNDS=${ROUNDS:-40}
source "$here/study.sh"

options_of() {
    case $1 in
        synchronous) ;;
        over-selected) echo "--set federation.over_select=1.3" ;;
        fedbuff) echo "--set federation.async.concurrency=30" ;;
    esac
}

# RUN: simulated seconds and rounds until 80 %; nothing where it never was
reached() {
    jq -rs 'reduce .[] as $r ({time: 0}; if .done then . else .time += $r.simulated_seconds
        | if $r.test_accuracy >= 0.8 then .done = $r.round else . end end) | select(.done) | "\(.time) \(.done)"' "$1/rounds.jsonl"
}
last() { jq '.final_accuracy * 100' "$1/summary.json"; }
lasted() { jq .simulated_seconds "$1/summary.json"; }
each() { for seed in $(seq "$seeds"); do "$1" "$out/$row-$seed"; done; }

table() {
    echo '| rounds | simulated seconds to 80 % | rounds to 80 % | runs that got there | accuracy, last | simulated seconds in all |'
    echo '|---|---|---|---|---|---|'
    for row in synchronous over-selected fedbuff; do
        for seed in $(seq "$seeds"); do
            train "$out/$row-$seed" "$seed" --set federation.clients=100 --set job.evaluate_every=1 --set model.name=mlp \
                --set train.schedule.kind=constant --set codec.uplink.kind=grid --set codec.downlink.kind=grid \
                --set "federation.devices=[{share = 1.0, speed = 200.0, spread = 1.5, uplink = 5.0, downlink = 20.0}]" \
                $(options_of "$row")
        done
        arrived=$(each reached)
        count=$(grep -c . <<<"$arrived" || true)
        time=- rounds_to=-
        if [ "$count" -gt 0 ]; then
            time=$(cut -d' ' -f1 <<<"$arrived" | moments %.1f)
            rounds_to=$(cut -d' ' -f2 <<<"$arrived" | moments %.1f)
        fi
        echo "| $row | $time | $rounds_to | $count of $seeds | $(each last | moments) | $(each lasted | moments %.1f) |"
    done
}

mkdir -p "$out"
table >"$out/table.md.part"
mv "$out/table.md.part" "$out/table.md"
cat "$out/table.md"
