#!/usr/bin/env bash
# study_quick.sh BIN NAME: the quick profile of every study file in examples/studies/NAME with the real programs. No cell
# fails, every metric of every row has a value, and there is a picture of every plot where gnuplot is installed.
source "$(dirname "$0")/lib.sh"
name=$2
[ -e /usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz ] ||
    { echo "skipped: Debian's package dataset-fashion-mnist is not installed"; exit 77; }

files=$(grep -l '^\[study\]' "examples/studies/$name"/*.toml)
for file in $files; do
    out=$work/$(basename "$file" .toml)
    "$bin/dither-study" --quiet "$file" --profile quick --out "$out" >/dev/null 2>"$work/stderr" ||
        fail "$file: $(sed -n '/## Failures/,$p' "$out/report.md" 2>/dev/null | head; head -5 "$work/stderr")"
    if command -v gnuplot >/dev/null; then
        ! grep -q 'no picture' "$work/stderr" || fail "$file: $(<"$work/stderr")"
    fi
    rows=$(wc -l <"$out/results.jsonl")
    [ "$rows" -gt 0 ] || fail "$file: no rows"
    jq -se 'all(.failed == null)' "$out/results.jsonl" >/dev/null || fail "$file: a row failed"
    jq -se 'all(.metrics | all(.[]; . != null))' "$out/results.jsonl" >/dev/null ||
        fail "$file: without a value: $(jq -sc '[.[] | .metrics | to_entries[] | select(.value == null) | .key] | unique' "$out/results.jsonl")"
    grep -q ' 0 failed and 0 were not run' "$out/report.md" || fail "$file: the report is not complete"
    for plot in $(sed -n 's/^!\[.*\](\(.*\))$/\1/p' "$out/report.md"); do
        ! command -v gnuplot >/dev/null || [ -s "$out/$plot" ] || fail "$file: no $plot"
    done
    echo "$file: $rows rows"
done
