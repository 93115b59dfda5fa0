#!/usr/bin/env bash
# The model of a run is the same to the last bit alone, under mpirun with any number of ranks (more ranks than clients of a
# round, too), and after a resume; so is everything else that a run reports but its
# seconds.
source "$(dirname "$0")/lib.sh"
export ASAN_OPTIONS=detect_leaks=0  # OpenMPI leaks by design

simulate "$work/job.toml" --out "$work/alone" >/dev/null
for ranks in 2 3 8; do
    mpirun -n $ranks "$bin/dither-simulate" --quiet "$work/job.toml" --out "$work/ranks$ranks" \
        --set output.pictures=false >/dev/null
    [ "$(hash_of "$work/ranks$ranks")" = "$(hash_of "$work/alone")" ] || fail "$ranks ranks give another model"
    diff <(rounds_of "$work/alone") <(rounds_of "$work/ranks$ranks") ||
        fail "$ranks ranks report other rounds"
done

# Measuring what updates lose changes no model, and is itself the same everywhere.
mpirun -n 3 "$bin/dither-simulate" --quiet "$work/job.toml" --out "$work/measured3" --set output.pictures=false \
    --set codec.uplink.measure=true >/dev/null
simulate "$work/job.toml" --out "$work/measured" --set codec.uplink.measure=true >/dev/null
[ "$(hash_of "$work/measured")" = "$(hash_of "$work/alone")" ] || fail "measuring what updates lose changes the model"
diff <(rounds_of "$work/measured") <(rounds_of "$work/measured3") || fail "3 ranks lose otherwise"
unmeasured='del(.update_nmse, .layers[].update_nmse)'
diff <(rounds_of "$work/measured" | jq -c "$unmeasured") <(rounds_of "$work/alone" | jq -c "$unmeasured") ||
    fail "measuring changes what else a run reports"
jq -e -s 'all(.[]; .update_nmse > 0 and (.layers | all(.update_nmse > 0)))' "$work/measured/rounds.jsonl" >/dev/null ||
    fail "a round without what its updates lose"
jq -e -s 'all(.[]; .update_nmse == null and (.layers | all(.update_nmse == null)))' "$work/alone/rounds.jsonl" >/dev/null ||
    fail "what updates lose was not asked for"

simulate "$work/job.toml" --out "$work/half" --set job.rounds=3 >/dev/null
mpirun -n 3 "$bin/dither-simulate" --quiet "$work/job.toml" --out "$work/half" --resume --set output.pictures=false >/dev/null
[ "$(hash_of "$work/half")" = "$(hash_of "$work/alone")" ] || fail "a resumed run gives another model"
diff <(rounds_of "$work/alone") <(rounds_of "$work/half") ||
    fail "a resumed run reports other rounds"

# Unequal clients run unequal plans; still, who hosts them does not show.
cat "$work/job.toml" - >"$work/devices.toml" <<JOB
[precision]
policy = "uniform"
bits = 4
[[federation.devices]]
share = 0.4
widths = [8, 32]
[[federation.devices]]
share = 0.3
widths = [2, 6]
memory = "64MiB"
JOB
for workers in 1 2; do
    "$bin/dither-simulate" --quiet --workers $workers "$work/devices.toml" --out "$work/devices$workers" \
        --set output.pictures=false >/dev/null
done
mpirun -n 3 "$bin/dither-simulate" --quiet "$work/devices.toml" --out "$work/devices3" \
    --set output.pictures=false >/dev/null
jq -e -s 'all(.[]; .committed) and any(.[]; .plans > 1)' "$work/devices1/rounds.jsonl" >/dev/null ||
    fail "no round ran different plans"
for other in 2 3; do
    diff <(rounds_of "$work/devices1") <(rounds_of "$work/devices$other") || fail "devices: other hosts, other rounds"
done
[ "$(hash_of "$work/devices1")" != "$(hash_of "$work/alone")" ] || fail "devices change nothing"
refuses 2 'federation.devices\[1\].share: the shares up to here sum to 1.1' "$bin/dither-simulate" \
    "$work/devices.toml" --out "$work/never" --set 'federation.devices=[{share=0.6}, {share=0.5}]'

# Nor does it where a policy rules the uplink and the bytes of a round are limited.
cat "$work/job.toml" - >"$work/budget.toml" <<JOB
[precision]
policy = "loss"
byte_budget = 3600
JOB
"$bin/dither-simulate" --quiet --workers 1 "$work/budget.toml" --out "$work/budget1" --set output.pictures=false >/dev/null
mpirun -n 3 "$bin/dither-simulate" --quiet "$work/budget.toml" --out "$work/budget3" --set output.pictures=false >/dev/null
[ "$(hash_of "$work/budget1")" = "$(hash_of "$work/budget3")" ] || fail "budget: 3 ranks give another model"
diff <(rounds_of "$work/budget1") <(rounds_of "$work/budget3") || fail "budget: 3 ranks report other rounds"
jq -e -s 'any(.[]; .reason | test("byte_budget 3600: grids"))' "$work/budget1/rounds.jsonl" >/dev/null ||
    fail "the byte budget did not bind"

# Nor where there are more clients than samples, and the clients evaluate what they hold back.
many=(--set federation.clients=1000 --set 'federation.partition={kind="resampled",samples=10}' --set federation.holdout=0.25
    --set job.evaluate_every=2 --set output.pictures=false)
for workers in 1 3; do
    "$bin/dither-simulate" --quiet --workers $workers "$work/job.toml" --out "$work/many$workers" "${many[@]}" >/dev/null
done
mpirun -n 4 "$bin/dither-simulate" --quiet "$work/job.toml" --out "$work/many4" "${many[@]}" >/dev/null
for other in 3 4; do
    diff <(rounds_of "$work/many1") <(rounds_of "$work/many$other") || fail "many clients: other hosts, other rounds"
done
jq -e -s 'all(.[]; if .round % 2 == 0 then .clients.count == 5 and .clients.samples == 10 else .clients == null end)' \
    "$work/many1/rounds.jsonl" >/dev/null || fail "not every client of an evaluated round has evaluated 2 samples of its 10"
jq -e '.clients.personal_accuracy.max <= 1' "$work/many1/summary.json" >/dev/null || fail "no clients in summary.json"

# A bad job under mpirun: said once, and every rank ends.
refuses 2 'cohort' mpirun -n 3 "$bin/dither-simulate" "$work/job.toml" --out "$work/never" --set federation.cohort=99
[ "$(grep -c 'dither-simulate:' "$work/stderr")" -eq 1 ] || fail "the error was not said exactly once"
[ ! -e "$work/never" ] || fail "a refused job wrote something"
