#!/usr/bin/env bash
# What registered clients cost: logistic regression on MNIST, 60 images a client drawn for it alone, batch 10, everything in 8
# bits, in one process. Prints, as Markdown, for each number of clients and each cohort: seconds a round (the median of the
# rounds after the first), microseconds a client update, peak memory (reading the files), memory while it runs, and what of that each
# client takes more than in the row of the fewest clients.
#
#     DITHER_DATA=DIR tests/bench/million.sh OUT      the folder `mnist` in DIR has the four IDX files
#
# BIN (build/release/bin), WORKERS (1), ROUNDS (20), CLIENTS ("1000 10000 100000 1000000"), COHORTS ("100 300 1000")
set -euo pipefail
cd "$(dirname "$0")/../.."
[ $# -eq 1 ] || { echo "usage: DITHER_DATA=DIR tests/bench/million.sh OUT" >&2; exit 2; }
out=$(realpath -m "$1")
data=${DITHER_DATA:?names no folder with mnist}/mnist
bin=${BIN:-build/release/bin}
mkdir -p "$out"

run() {  # CLIENTS COHORT
    local dir=$out/$1-$2 pid arguments="$bin ${WORKERS:-1} ${ROUNDS:-20} $data"
    if [ -s "$dir/peak" ]; then
        [ "$(<"$dir/arguments")" = "$arguments" ] ||
            { echo "$dir holds a run with '$(<"$dir/arguments")', expected '$arguments': move it away" >&2; exit 1; }
        return
    fi
    rm -rf "$dir"
    mkdir "$dir"
    echo "$arguments" >"$dir/arguments"
    /usr/bin/time -f %M -o "$dir/peak.part" "$bin/dither-simulate" examples/jobs/fashion_cnn2.toml --quiet \
        --workers "${WORKERS:-1}" --out "$dir/run" --set data.path="$data" --set model.name=linear \
        --set federation.clients="$1" --set federation.cohort="$2" --set federation.partition.kind=resampled \
        --set federation.partition.samples=60 --set train.batch_size=10 --set train.optimizer.lr=0.03 \
        --set train.optimizer.momentum=0 --set precision.policy=uniform --set noise.kind=none \
        --set job.rounds="${ROUNDS:-20}" --set job.evaluate_every=10 --set output.pictures=false >/dev/null &
    until pid=$(pgrep -P $!); do kill -0 $! || break; sleep 0.01; done
    while awk '/VmRSS/ {print $2}' "/proc/$pid/status" >>"$dir/resident" 2>/dev/null; do sleep 0.1; done
    wait $!
    mv "$dir/peak.part" "$dir/peak"
}
# Of the second half of the samples: reading the files takes more for a moment.
resident_of() { tail -n +$(($(wc -l <"$1/resident") / 2 + 1)) "$1/resident" | sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }
seconds_of() { jq -s '.[1:] | map(.seconds) | sort | .[length / 2 | floor]' "$out/$1-$2/run/rounds.jsonl"; }

echo '| clients | cohort | seconds a round | microseconds an update | peak MiB | running MiB | bytes a client |'
echo '|---|---|---|---|---|---|---|'
for cohort in ${COHORTS:-100 300 1000}; do
    fewest=
    for clients in ${CLIENTS:-1000 10000 100000 1000000}; do
        run "$clients" "$cohort"
        peak=$(<"$out/$clients-$cohort/peak")
        resident=$(resident_of "$out/$clients-$cohort")
        fewest=${fewest:-$clients $resident}
        awk -v n="$clients" -v c="$cohort" -v s="$(seconds_of "$clients" "$cohort")" -v peak="$peak" -v kib="$resident" -v fewest="$fewest" 'BEGIN {
            split(fewest, f)
            more = n > f[1] ? sprintf("%.1f", (kib - f[2]) * 1024 / (n - f[1])) : "-"
            printf "| %d | %d | %.4f | %.0f | %.1f | %.1f | %s |\n", n, c, s, s / c * 1e6, peak / 1024, kib / 1024, more
        }'
    done
done
