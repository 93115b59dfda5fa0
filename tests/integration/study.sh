#!/usr/bin/env bash
# dither-study: whatever interrupts a study, nothing is run twice and the report is the same; a cell that fails is
# counted and harms no other; what is wrong with a study file is said by name. The cells run stand-ins; that the real
# programs do is what integration/study_t0 shows.
source "$(dirname "$0")/lib.sh"
study() { "$bin/dither-study" --quiet "$@"; }

# A dither-simulate that trains nothing: it leaves what a run would, and a line in $STARTS. A seed of 13 gives up, and
# while $work/slow is there it waits between two rounds. With --resume it goes on after the first one.
cat >"$work/simulate" <<'SH'
#!/usr/bin/env bash
set -euo pipefail
job=$1; out=$3; shift 3
seed=$(sed -n 's/^seed = //p' "$job" | head -1)
lr=$(sed -n 's/.*{ kind = "sgd", lr = \([0-9.e-]*\),.*/\1/p' "$job" | head -1)
echo "$(basename "$(dirname "$out")") $*" >>"$STARTS"
[ "$seed" != 13 ] || { echo "round 1: the loss is not finite" >&2; exit 1; }
mkdir -p "$out"
round() { echo "{\"round\": $1, \"test_accuracy\": 0.$1, \"train_loss\": $lr, \"layers\": []}" >>"$out/rounds.jsonl"; }
case " $* " in *" --resume "*) ;; *) round 1 ;; esac
touch "$out/model.dither"
while [ -e "$(dirname "$STARTS")/slow" ]; do sleep 0.05; done
round 2
echo "{\"final_accuracy\": $(echo "$seed $lr" | awk '{print 0.5 + $1 / 100 + $2}'), \"seconds\": $seed," \
    "\"bytes_up\": 1000, \"cpu\": \"made up\", \"model_sha256\": \"model-$seed-$lr\"}" >"$out/summary.json"
SH
cat >"$work/evaluate" <<'SH'
#!/usr/bin/env bash
echo "evaluate $*" >>"$STARTS"
[ -e "$1" ] || { echo "no model" >&2; exit 2; }
echo '{"fp32": {"accuracy": 0.5}, "quantized": {"accuracy": 0.25}}'
SH
chmod +x "$work/simulate" "$work/evaluate"
programs=(--simulate "$work/simulate" --evaluate "$work/evaluate")
cat >"$work/study.toml" <<'TOML'
[study]
name = "made-up"
title = "A study of nothing"
job = "job.toml"
seeds = 4
baseline = "slow"

[[method]]
name = "slow"
set = { "train.optimizer.lr" = 0.01 }
[[method]]
name = "fast"
set = { train.optimizer.lr = 0.1 }
[[method]]
name = "fast again"
set = { "train.optimizer.lr" = 0.1 }

[grid]
"federation.cohort" = [3, 5]

[[evaluate]]
name = "int4"
arguments = ["--weights", "4"]

[[metric]]
name = "accuracy"
from = "summary.final_accuracy"
scale = 100
unit = "%"
format = ".2f"
[[metric]]
name = "drop"
from = "summary.final_accuracy"
minus = "evaluate.int4.quantized.accuracy"
[[metric]]
name = "loss"
from = "rounds.last(2).train_loss"
better = "lower"

[[plot]]
kind = "bars"
name = "accuracy"
metric = "accuracy"
[[plot]]
kind = "scatter_pareto"
name = "front"
x = "loss"
y = "accuracy"
[[plot]]
kind = "lines"
name = "curve"
rounds = "test_accuracy"
[[plot]]
kind = "lines"
name = "cohort"
axis = "federation.cohort"
metric = "accuracy"

[profile.quick]
seeds = 2
TOML
export STARTS=$work/starts
started() { grep -vc -- "$1" "$STARTS" || true; }

# The whole study: 2 jobs x 2 cohorts x 4 seeds, of which equal ones are run once, each with an evaluation.
: >"$STARTS"
study "$work/study.toml" --out "$work/whole" "${programs[@]}" --jobs 4 >/dev/null || fail "the study"
[ "$(started evaluate)" -eq 16 ] || fail "$(started evaluate) runs instead of 16"
[ "$(wc -l <"$STARTS")" -eq 32 ] || fail "not one evaluation a run"
[ "$(wc -l <"$work/whole/results.jsonl")" -eq 24 ] && [ "$(wc -l <"$work/whole/results.csv")" -eq 25 ] || fail "rows"
jq -se 'map(select(.method == "fast" and .seed == 2)) | .[0].metrics | (.accuracy * 1000 | round) == 62000 and .loss == 0.1' \
    "$work/whole/results.jsonl" >/dev/null || fail "metrics"
grep -q '16 finished cells, which trained for 40.0 s in sum' \
    "$work/whole/report.md" || fail "the report does not say how long the cells took"
grep -qF '| cohort = 3 | fast | 4 | 0 | 62.50 | 1.29 | ' "$work/whole/report.md" || fail "no row of means"
grep -qF '**+9.00**' "$work/whole/report.md" || fail "no difference to the baseline"
grep -qF '| fast, cohort = 3 | 0.1 | 62.50 |' "$work/whole/report.md" || fail "no table of the front"
grep -qF 'Rank correlation of the two over 16 finished cells: 0.87.' "$work/whole/report.md" || fail "no rank correlation"
if command -v gnuplot >/dev/null; then
    for plot in accuracy front curve cohort; do
        [ -s "$work/whole/plots/$plot.svg" ] && [ -s "$work/whole/plots/$plot.png" ] || fail "no picture $plot"
    done
fi

# Again: nothing is run, and the report is the same. Without the last file of the results, `report` makes it.
cp "$work/whole/report.md" "$work/report.md"
study "$work/study.toml" --out "$work/whole" "${programs[@]}" >/dev/null
[ "$(wc -l <"$STARTS")" -eq 32 ] || fail "a finished cell was run again"
rm "$work/whole/report.md"
"$bin/dither-study" report "$work/whole" >/dev/null
cmp "$work/report.md" "$work/whole/report.md" || fail "another report"

# Killed in the middle: its children die with it, what was finished stays, what was begun goes on.
: >"$STARTS"
touch "$work/slow"
"$bin/dither-study" --quiet "$work/study.toml" --out "$work/killed" "${programs[@]}" --jobs 3 >/dev/null 2>&1 &
pid=$!
until [ "$(wc -l <"$STARTS")" -ge 3 ]; do sleep 0.05; done
refuses 2 'in use by another process' study "$work/study.toml" --out "$work/killed" "${programs[@]}"
for cell in "$work/killed"/cells/*/; do until [ -e "$cell/run/model.dither" ]; do sleep 0.05; done; done
kill -9 $pid
{ wait $pid; } 2>/dev/null || true
rm "$work/slow"
study "$work/study.toml" --out "$work/killed" "${programs[@]}" --resume >/dev/null || fail "resuming"
[ "$(grep -c -- --resume "$STARTS")" -eq 3 ] || fail "not what was interrupted was resumed"
[ "$(grep -v evaluate "$STARTS" | cut -d' ' -f1 | sort -u | wc -l)" -eq 16 ] &&
    [ "$(grep -v evaluate "$STARTS" | grep -vc -- --resume)" -eq 16 ] || fail "something was run twice"
cmp "$work/report.md" "$work/killed/report.md" || fail "another report after kill -9"
cmp "$work/whole/results.jsonl" "$work/killed/results.jsonl" || fail "other results after kill -9"

# A signal ends the children and says how to go on.
touch "$work/slow"
"$bin/dither-study" --quiet "$work/study.toml" --out "$work/stopped" "${programs[@]}" --jobs 2 >/dev/null 2>"$work/stderr" &
pid=$!
until compgen -G "$work/stopped/cells/*/run/model.dither" >/dev/null; do sleep 0.05; done
kill -TERM $pid
code=0
wait $pid || code=$?
[ $code -eq 143 ] && grep -q 'continue with --resume' "$work/stderr" || fail "SIGTERM: $code, $(cat "$work/stderr")"
rm "$work/slow"
study "$work/study.toml" --out "$work/stopped" "${programs[@]}" --resume >/dev/null || fail "resuming"
cmp "$work/report.md" "$work/stopped/report.md" || fail "another report after SIGTERM"

# A cell that gives up, an evaluation that fails, and a job that cannot be: recorded, and the rest goes on.
sed 's/^seeds = 4/seeds = [1, 13, 2]/; s/^name = "made-up"/name = "failing"/; s/= \[3, 5\]/= [3, 5, 13]/' "$work/study.toml" >"$work/failing.toml"
refuses 1 '15 of 27 rows failed' study "$work/failing.toml" --out "$work/failing" "${programs[@]}"
grep -qF '| 13 | dither-simulate ended with 1: round 1: the loss is not finite |' "$work/failing/report.md" || fail "failure table"
grep -q 'cohort = 13 | 1 | .*13.*12' "$work/failing/report.md" || fail "no impossible job"
grep -qF '| cohort = 3 | fast | 2 | 1 |' "$work/failing/report.md" || fail "failures are not counted"
before=$(wc -l <"$STARTS")
refuses 1 '15 of 27 rows failed' study "$work/failing.toml" --out "$work/failing" "${programs[@]}"
[ "$(wc -l <"$STARTS")" -eq "$before" ] || fail "a failed cell was run again"
refuses 1 '15 of 27 rows failed' study "$work/failing.toml" --out "$work/failing" "${programs[@]}" --retry
[ "$(wc -l <"$STARTS")" -eq $((before + 4)) ] || fail "--retry did not run what failed"

# verify runs a cell again, in a folder of its own.
verify() { "$bin/dither-study" verify "$work/whole" "${programs[@]}" "$@"; }
[ "$(verify --seed 3)" != "$(verify --seed 4)" ] || fail "verify draws the same cell"
cell=$(basename "$(ls -d "$work/whole"/cells/* | head -1)")
verify --cell "$cell" | grep -q "$cell: the same model and the same 3 metrics" || fail "verify"
sed -i 's/"final_accuracy": 0\./"final_accuracy": 0.9/; s/model-/other-/' "$work/whole/cells/$cell/run/summary.json"
code=0
verify --cell "$cell" >"$work/stdout" || code=$?
[ $code -eq 1 ] && grep -q 'model_sha256: other-' "$work/stdout" && grep -q 'accuracy: 9' "$work/stdout" || fail "verify overlooks: $(cat "$work/stdout")"
refuses 2 'no finished cell' verify --cell nonsense
refuses 2 'holds no study' "$bin/dither-study" report "$work/never"

# Named choices are an axis; a sum of two values is a metric; an evaluation's {key} is the cell's; a plot for each point.
sed 's/^"federation.cohort" = .*/size.few = { federation.cohort = 3 }\nsize.many = { federation.cohort = 5 }/
    s/"--weights", "4"/"--weights", "{federation.cohort}"/; s/^axis = "federation.cohort"/axis = "size"/
    s/^minus = /plus = /; s/^name = "front"/name = "front"\napart = true/; s/^name = "made-up"/name = "named"/' \
    "$work/study.toml" >"$work/named.toml"
: >"$STARTS"
study "$work/named.toml" --out "$work/named" "${programs[@]}" >/dev/null || fail "named choices"
[ "$(grep -c '^evaluate .*--weights 3' "$STARTS")" -eq 8 ] && [ "$(grep -c '^evaluate .*--weights 5' "$STARTS")" -eq 8 ] ||
    fail "the evaluations' key"
grep -qF '| size = few | fast | 4 | 0 | 62.50 |' "$work/named/report.md" || fail "no row of a named choice"
jq -se 'map(select(.grid.size == "many" and .method == "fast" and .seed == 2)) | .[0].metrics.drop == 0.87' \
    "$work/named/results.jsonl" >/dev/null || fail "the sum of two values"
grep -qF '(plots/front-1.svg)' "$work/named/report.md" && grep -qF '(plots/front-2.svg)' "$work/named/report.md" || fail "plots apart"

# --profile and --set; another study does not go into the folder.
study "$work/study.toml" --out "$work/quick" "${programs[@]}" --profile quick --set train.batch_size=4 >/dev/null
grep -qF -- '--profile quick --set train.batch_size=4' "$work/quick/report.md" || fail "no command in the report"
[ "$(wc -l <"$work/quick/results.jsonl")" -eq 12 ] || fail "the quick profile has other seeds"
grep -q 'batch_size = 4' "$work"/quick/cells/*/job.toml || fail "--set"
refuses 2 'holds the study "made-up", expected "failing"' study "$work/failing.toml" --out "$work/quick" "${programs[@]}"

# The study that examples/README.md explains is one.
mkdir -p "$work/jobs" "$work/studies/readme"
cp examples/jobs/fashion_cnn2.toml "$work/jobs/"
sed -n '/^```toml/,/^```$/p' examples/README.md | sed '1d;$d' >"$work/studies/readme/study.toml"
study "$work/studies/readme/study.toml" --out "$work/readme" "${programs[@]}" --profile quick >/dev/null || fail "the README's study"
[ "$(wc -l <"$work/readme/results.jsonl")" -eq 8 ] || fail "the README's study has other rows"

bad() {  # PATTERN SED-EXPRESSION
    sed "$2" "$work/study.toml" >"$work/bad.toml"
    refuses 2 "$1" study "$work/bad.toml" --out "$work/never" "${programs[@]}"
    [ ! -e "$work/never" ] || fail "wrote something: $2"
}
bad 'bad\.toml:4:1: unknown key study\.jib; the nearest known one is study\.job|expected study\.job' 's/^job = /jib = /'
bad 'bad\.toml:5:.*study\.seeds: expected how many seeds' 's/^seeds = 4/seeds = "four"/'
bad 'bad\.toml:6:.*no method "slaw"; the nearest one is "slow"' 's/^baseline = "slow"/baseline = "slaw"/'
bad 'bad\.toml:10:.*unknown key train\.optimiser; the nearest known one is train\.optimizer' '10s/optimizer/optimiser/'
bad 'bad\.toml:[0-9]*:.*metric\[0\]\.from: expected summary\.KEY.*found "summry' 's/summary\.final_accuracy"$/summry.final_accuracy"/'
bad 'metric\[1\]\.minus: there is no \[\[evaluate\]\] "int5"; the nearest one is "int4"' 's/evaluate\.int4/evaluate.int5/'
bad 'there is no metric "acuracy"; the nearest one is "accuracy"' 's/^metric = "accuracy"/metric = "acuracy"/'
bad 'plot\[0\]\.?.*unknown key plot\[0\]\.metrc|expected plot\[0\]\.metric' '0,/^metric = /s//metrc = /'
bad 'expected one of "bars".*found "pies"' 's/kind = "bars"/kind = "pies"/'
bad 'axis of the grid "federation.cohrt"; the nearest one is "federation.cohort"' 's/^axis = .*/axis = "federation.cohrt"/'
bad 'sets federation\.cohort, which the grid varies' 's/train\.optimizer\.lr = 0\.1/federation.cohort = 4/'
bad 'unknown key profile\.quick\.sed; the nearest known one is profile.quick.se' 's/^seeds = 2/sed = 2/'
bad 'unknown key plots; the nearest known one is plot' 's/^\[\[plot\]\]/[[plots]]/'
bad 'bad\.toml:2:' '2s/=/==/'
bad 'no-such\.toml: cannot read the job file' 's/job\.toml/no-such.toml/'
refuses 2 'profile slow: there are full, quick' study "$work/study.toml" --out "$work/never" --profile slow
refuses 2 'expected a program' study "$work/study.toml" --out "$work/never" --simulate "$work/nothing"
refuses 2 'STUDY and --out' study "$work/study.toml"
refuses 2 'frobnicate' study "$work/study.toml" --frobnicate
# A value that a run does not have is said with the nearest one, cell by cell.
sed 's/final_accuracy/final_acuracy/' "$work/study.toml" >"$work/bad.toml"
refuses 1 '24 of 24 rows failed' study "$work/bad.toml" --out "$work/missing" "${programs[@]}"
grep -q 'summary\.final_acuracy: there is no such value; the nearest key is final_accuracy' "$work/missing/report.md" || fail "nearest key"
# So is what a plot asks for in vain; a round that there is not is no fault, and the report is made all the same.
{ cat "$work/study.toml"
  printf '[[plot]]\nkind = "lists"\nname = "%s"\ny = ["%s"]\n' far 'round[5].layers' odd evaluate.int4.quantised; } >"$work/lists.toml"
study "$work/lists.toml" --out "$work/lists" "${programs[@]}" >/dev/null 2>"$work/stderr" || fail "a list that is not there"
grep -q 'odd: evaluate\.int4\.quantised: there is no such value; the nearest key is quantized' "$work/stderr" || fail "a plot's nearest key"
! grep -q 'far: ' "$work/stderr" && grep -q 'no picture of far, odd' "$work/stderr" || fail "a round that there is not"
says() { grep -q "$2" <<<"$("$bin/dither-study" "$1")" || fail "$1"; }  # no pipe: grep would close it early
says --help 'Exit codes'
says --version '^dither-study'
says --help-study 'scatter_pareto'

# A cell that hangs is ended, and is a failure like any other.
touch "$work/slow"
refuses 1 '24 of 24 rows failed' study "$work/study.toml" --out "$work/hanging" "${programs[@]}" --jobs 16 --cell-timeout 1
rm "$work/slow"
grep -qF '| dither-simulate took longer than 1 s' "$work/hanging/report.md" || fail "the report does not say what hung"
study "$work/study.toml" --out "$work/hanging" "${programs[@]}" --retry >/dev/null || fail "what hung is not run again"
cmp "$work/report.md" "$work/hanging/report.md" || fail "another report after a cell hung"
