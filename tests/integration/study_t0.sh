#!/usr/bin/env bash
# The quick profile of a study with the real programs: killed in the middle and resumed, it has every cell; a cell that is
# run again has the same model and metrics; noise of xi is noise of its deviation, bit by bit.
source "$(dirname "$0")/lib.sh"
study=(--quiet examples/studies/t0_qat/study.toml --profile quick --out "$work/t0")

"$bin/dither-study" "${study[@]}" >/dev/null 2>&1 &
pid=$!
until [ "$(compgen -G "$work/t0/cells/*/run.json" | wc -l)" -ge 5 ] || ! kill -0 $pid 2>/dev/null; do sleep 0.05; done
kill -9 $pid 2>/dev/null || true
{ wait $pid; } 2>/dev/null || true
"$bin/dither-study" "${study[@]}" --resume >/dev/null || fail "the study: $(sed -n '/## Failures/,$p' "$work/t0/report.md" | head)"
[ "$(wc -l <"$work/t0/results.jsonl")" -eq 40 ] || fail "rows"
jq -se 'all(.failed == null)' "$work/t0/results.jsonl" >/dev/null || fail "something failed"
models() { jq -r "select(.method == \"$1\") | .model_sha256" "$work/t0/results.jsonl"; }
[ "$(models 'xi, scaled 80,000')" = "$(models 'sigma 10.67')" ] || fail "xi is another noise than its deviation"
[ "$(models 'xi, scaled 80,000')" != "$(models standard)" ] || fail "noise changes nothing"
"$bin/dither-study" verify "$work/t0" | grep -q 'the same model and the same 7 metrics' || fail "verify"
