#!/usr/bin/env bash
# The model of a run is the same to the last bit alone, under mpirun with any number of ranks (more ranks than clients of a
# round, too), and after a resume; so is everything else that a run reports but its seconds.
source "$(dirname "$0")/lib.sh"
export ASAN_OPTIONS=detect_leaks=0  # OpenMPI leaks by design

simulate "$work/job.toml" --out "$work/alone" >/dev/null
for ranks in 2 3 8; do
    mpirun -n $ranks "$bin/dither-simulate" --quiet "$work/job.toml" --out "$work/ranks$ranks" \
        --set output.pictures=false >/dev/null
    [ "$(hash_of "$work/ranks$ranks")" = "$(hash_of "$work/alone")" ] || fail "$ranks ranks give another model"
    diff <(jq -c 'del(.seconds)' "$work/alone/rounds.jsonl") <(jq -c 'del(.seconds)' "$work/ranks$ranks/rounds.jsonl") ||
        fail "$ranks ranks report other rounds"
done

simulate "$work/job.toml" --out "$work/half" --set job.rounds=3 >/dev/null
mpirun -n 3 "$bin/dither-simulate" --quiet "$work/job.toml" --out "$work/half" --resume --set output.pictures=false >/dev/null
[ "$(hash_of "$work/half")" = "$(hash_of "$work/alone")" ] || fail "a resumed run gives another model"
diff <(jq -c 'del(.seconds)' "$work/alone/rounds.jsonl") <(jq -c 'del(.seconds)' "$work/half/rounds.jsonl") ||
    fail "a resumed run reports other rounds"

# A bad job under mpirun: said once, and every rank ends.
refuses 2 'cohort' mpirun -n 3 "$bin/dither-simulate" "$work/job.toml" --out "$work/never" --set federation.cohort=99
[ "$(grep -c 'dither-simulate:' "$work/stderr")" -eq 1 ] || fail "the error was not said exactly once"
[ ! -e "$work/never" ] || fail "a refused job wrote something"
