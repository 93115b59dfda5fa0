# Shared by the integration scripts; sourced. $1 of a script is the folder of the built programs.
set -euo pipefail
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
bin=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# A small job that needs no package: 400 rows of 6 features in 3 classes, from a fixed linear congruence.
make_table() {
    awk 'BEGIN {
        x = 12345
        for (i = 0; i < 400; ++i) {
            label = i % 3
            line = ""
            for (j = 0; j < 6; ++j) {
                x = (1103515245 * x + 12345) % 2147483648
                line = line sprintf("%.4f,", x / 2147483648 + (j % 3 == label ? 0.8 : 0))
            }
            print line label
        }
    }' >"$1"
}
make_table "$work/table.csv"
cat >"$work/job.toml" <<JOB
[job]
name = "small"
rounds = 6
[data]
format = "csv"
path = "$work/table.csv"
[federation]
clients = 12
cohort = 5
partition = { kind = "dirichlet", alpha = 1.0 }
[model]
name = "mlp"
hidden = [16]
[train]
batch_size = 8
[noise]
kind = "xi"
JOB

simulate() { "$bin/dither-simulate" --quiet --workers 2 "$@" --set output.pictures=false; }
hash_of() { jq -r .model_sha256 "$1/summary.json"; }
# What a run reports of its rounds, but for real time.
rounds_of() { jq -c 'del(.seconds, .train_seconds, .probe_seconds)' "$1/rounds.jsonl"; }
fail() { echo "FAILED: $*" >&2; exit 1; }

# refuses CODE PATTERN COMMAND...: the command must end with CODE and say PATTERN on stderr.
refuses() {
    local code=$1 pattern=$2 actual=0
    shift 2
    "$@" >"$work/stdout" 2>"$work/stderr" </dev/null || actual=$?
    [ "$actual" -eq "$code" ] || fail "exit code $actual instead of $code: $* ($(head -3 "$work/stderr"))"
    grep -qE -- "$pattern" "$work/stderr" || fail "no '$pattern' in: $(head -3 "$work/stderr") ($*)"
}
