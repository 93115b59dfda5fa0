#!/usr/bin/env bash
# The walk-through over TLS, and a short version of tests/chaos/kill.sh: kill -9 of everything changes no bit of the model.
source "$(dirname "$0")/lib.sh"
[ -d "${DATA:=/usr/share/datasets/fashion-mnist}" ] || { echo "skipped: no $DATA (Debian's dataset-fashion-mnist)"; exit 0; }
export BIN=$bin DATA

IMAGES=1500 timeout 300 examples/deployment/walkthrough.sh "$work/walk" --set job.rounds=5 >"$work/shown" || fail "$(cat "$work/shown")"
grep -q '^final accuracy 0\.' "$work/shown" || fail "$(cat "$work/shown")"
[ "$(grep -c ' has joined as peer ' "$work/walk/aggregator.log")" -ge 3 ] || fail "$(cat "$work/walk/aggregator.log")"

# A machine that is through before the last kill (77) needs a longer run.
for rounds in 60 240 960; do
    code=0
    timeout 500 tests/chaos/kill.sh "$work/chaos" --aggregator 4 --nodes 4 --rounds $rounds || code=$?
    [ $code -eq 77 ] || exit $code
done
fail "960 rounds are over before eight kills"
