#!/usr/bin/env bash
# A signal leaves a checkpoint that resumes to the same bits as a run that was never stopped.
source "$(dirname "$0")/lib.sh"

long=(--set job.rounds=400 --set train.epochs=4)
simulate "$work/job.toml" --out "$work/whole" "${long[@]}" >/dev/null

stop_once() {  # SIGNAL EXIT_CODE FOLDER
    local signal=$1 code=$2 folder=$3 actual=0
    "$bin/dither-simulate" --quiet --workers 2 "$work/job.toml" --out "$folder" "${long[@]}" \
        --set output.pictures=false >/dev/null 2>"$work/stderr" &
    local pid=$!
    until [ -s "$folder/rounds.jsonl" ]; do kill -0 $pid || fail "ended before its first round"; sleep 0.01; done
    kill -s "$signal" $pid
    wait $pid || actual=$?
    [ "$actual" -eq "$code" ] || fail "exit code $actual instead of $code after SIG$signal ($(cat "$work/stderr"))"
    [ "$(wc -l <"$folder/rounds.jsonl")" -lt 400 ] || fail "the run was over before the signal"
}
for case in 'INT 130' 'TERM 143'; do
    set -- $case
    stop_once "$1" "$2" "$work/$1"
    grep -q -- '--resume' "$work/stderr" || fail "does not say how to go on"
    simulate "$work/job.toml" --out "$work/$1" --resume "${long[@]}" >/dev/null
    [ "$(hash_of "$work/$1")" = "$(hash_of "$work/whole")" ] || fail "resumed after SIG$1 to another model"
    [ "$(jq -s length "$work/$1/rounds.jsonl")" -eq 400 ] || fail "rounds are missing or doubled after SIG$1"
done

# kill -9 promises as much.
"$bin/dither-simulate" --quiet --workers 2 "$work/job.toml" --out "$work/kill" "${long[@]}" \
    --set output.pictures=false >/dev/null 2>&1 &
pid=$!
until [ -s "$work/kill/rounds.jsonl" ]; do sleep 0.01; done
kill -9 $pid
wait $pid 2>/dev/null || true
simulate "$work/job.toml" --out "$work/kill" --resume "${long[@]}" >/dev/null
[ "$(hash_of "$work/kill")" = "$(hash_of "$work/whole")" ] || fail "resumed after SIGKILL to another model"
