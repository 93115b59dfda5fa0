# Shared by the studies; sourced. Runs and evaluations that are done are kept, so that a study can be stopped and continued.
#
#     BIN      where the programs are (build/release/bin)     SEEDS  runs of each configuration (5)
#     WORKERS  threads of a run (2)                           ROUNDS, LIMIT  length of a run (8); training images (0: all)
#     EXTRA    more options of dither-simulate for every run: "--set train.optimizer.lr=0.1"
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
bin=${BIN:-build/release/bin}
seeds=${SEEDS:-5}
rounds=${ROUNDS:-8}
common=(--set job.rounds="$rounds" --set job.evaluate_every=1000 --set data.limit="${LIMIT:-0}" --set output.pictures=false
    --set federation.clients=10 --set federation.cohort=10 --set federation.partition=iid
    --set codec.uplink.kind=raw --set codec.downlink.kind=raw --set noise.kind=none --set train.schedule.kind=cosine
    ${EXTRA:-})

say() { echo "$*" >&2; "$@"; }

# Ends the script, from within $(...) too, whose exit code nobody looks at among arguments.
trap 'exit 1' TERM
fail() { echo "FAILED: $*" >&2; kill -TERM $$; exit 1; }

# A run that cannot go on ends with 1: a result, which a report counts. Everything else is a fault of the study.
gave_up() {
    [ "$2" -eq 1 ] && [ -n "${COUNT_FAILED:-}" ] || fail "$1 ended with $2"
    touch "$1/failed"
}

# train DIR SEED OVERRIDES...: what made a run is beside it; a folder of other arguments is not taken for it
train() {
    local dir=$1 seed=$2 arguments
    shift 2
    arguments="${common[*]} --set job.seed=$seed $*"
    if [ -s "$dir/summary.json" ] || [ -e "$dir/failed" ]; then
        [ ! -e "$dir/arguments" ] || [ "$(<"$dir/arguments")" = "$arguments" ] ||
            fail "$dir holds a run with '$(<"$dir/arguments")', expected '$arguments': move it away or choose another folder"
        return
    fi
    rm -rf "$dir"
    mkdir -p "$dir"
    echo "$arguments" >"$dir/arguments"
    local quiet=--quiet
    [ -z "${PROGRAM:-}" ] || quiet=
    say "$bin/${PROGRAM:-dither-simulate}" examples/jobs/fashion_cnn2.toml $quiet --workers "${WORKERS:-2}" --out "$dir" \
        "${common[@]}" --set job.seed="$seed" "$@" >/dev/null || gave_up "$dir" $?
}

# score DIR NAME OPTIONS...: the evaluation of the run in DIR, kept as DIR/NAME.json
score() {
    local dir=$1 name=$2
    shift 2
    [ -s "$dir/$name.json" ] && return
    say "$bin/dither-evaluate" "$dir/model.dither" --json "$@" >"$dir/$name.json.part"
    mv "$dir/$name.json.part" "$dir/$name.json"
}

# column FOLDER RUN NAME VARIANT: accuracy in percent, one line a seed; the runs are FOLDER/RUN-SEED
column() {
    local seed
    for seed in $(seq "$seeds"); do
        jq -e ".$4.accuracy * 100" "$1/$2-$seed/$3.json" || fail "no .$4.accuracy in $1/$2-$seed/$3.json"
    done
}

# mean and standard error ("-" of one number) of the numbers on stdin; FORMAT for the mean
moments() {
    awk -v f="${1:-%.2f}" '{n++; s += $1; q += $1 * $1} END {
        if (n == 0) exit 1
        m = s / n
        if (n == 1) {printf f " +- -", m; exit}
        v = (q - n * m * m) / (n - 1)
        printf f " +- %.2f", m, sqrt((v < 0 ? 0 : v) / n)
    }' || fail "no numbers"
}

# paired COLUMN COLUMN: mean and standard error of the difference, seed by seed
paired() {
    local differences
    differences=$(paste <(echo "$1") <(echo "$2") | awk -v seeds="$seeds" '{print $1 - $2; ++n; odd += NF != 2}
        END {exit odd > 0 || n != seeds}') || fail "expected two columns of $seeds numbers, found '$1' and '$2'"
    moments '%+.2f' <<<"$differences"
}
