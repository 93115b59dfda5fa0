#!/usr/bin/env bash
# Hunts with libFuzzer: builds the preset fuzz, adds seeds and regressions to each target's corpus, runs every target, keeps
# the smallest corpus that covers as much, and prints a table. Ends 1 on a finding: an input that crashes, that breaks what
# the target demands, that the sanitizers object to, or that takes more than a second or one allocation of 256 MiB. Made for
# a weekly timer: where one run ended the next one begins.
#
#     tests/fuzz/run.sh DIR [--seconds N] [--only 'NAME...']                                          (60, all targets)
#
# DIR keeps corpus/NAME, findings/NAME, log/NAME and table.md. All findings are tried again, and go when they are none any
# more: mended, or slow only because the machine was. What is mended belongs into tests/fuzz/regressions/NAME. Names may be
# shell patterns: --only 'grid_* frame'.
# BUILD: the build folder (build/fuzz).
set -euo pipefail
usage="usage: tests/fuzz/run.sh DIR [--seconds N] [--only 'NAME...']"
[ $# -ge 1 ] || { echo "$usage" >&2; exit 2; }
dir=$(realpath -m "$1")
build=$(realpath -m "${BUILD:-$(dirname "$0")/../../build/fuzz}")
cd "$(dirname "$0")/../.."
shift
seconds=60 only='*'
while [ $# -gt 1 ]; do
    case $1 in
        --seconds) seconds=$2 ;;
        --only) only=$2 ;;
        *) echo "$usage" >&2; exit 2 ;;
    esac
    shift 2
done
[ $# -eq 0 ] || { echo "$usage" >&2; exit 2; }

cmake --preset fuzz -B "$build" >/dev/null
cmake --build "$build" --target fuzz_targets >&2

# Resident memory is what decoders may take, and what the sanitizers and the fuzzer keep beside.
limits=(-timeout=1 -malloc_limit_mb=256 -rss_limit_mb=1024 -max_len=65536)
no_artifacts=(-exact_artifact_path=/dev/null)
export ASAN_OPTIONS=quarantine_size_mb=32 UBSAN_OPTIONS=print_stacktrace=1
# Readers of files get theirs from memory.
[ -n "${TMPDIR:-}" ] || export TMPDIR=/dev/shm

chosen() {  # NAME
    local pattern
    while read -r pattern; do
        # shellcheck disable=SC2053
        [[ $1 == $pattern ]] && return 0
    done < <(tr ' ' '\n' <<<"$only")
    return 1
}

files_in() { find "$1" -type f | wc -l; }

retry_findings() {  # PROGRAM FINDINGS
    local finding
    for finding in "$2"/*; do
        [ ! -e "$finding" ] || ! "$1" "${limits[@]}" "${no_artifacts[@]}" "$finding" >/dev/null 2>&1 || rm "$finding"
    done
}

# Keeps the corpus as it is where one of its inputs is a finding.
minimize() {  # PROGRAM CORPUS
    rm -rf "$2.less"
    mkdir "$2.less"
    if "$1" "${limits[@]}" "${no_artifacts[@]}" -merge=1 "$2.less" "$2" >/dev/null 2>&1; then
        rm -rf "$2"
        mv "$2.less" "$2"
    else
        rm -rf "$2.less"
    fi
}

hunt() {  # NAME; prints its row
    local name=$1 program=$build/bin/fuzz_$1 corpus=$dir/corpus/$1 findings=$dir/findings/$1 log=$dir/log/$1
    mkdir -p "$corpus" "$findings" "$dir/log"
    "$program" --seeds "$corpus"
    [ ! -d "tests/fuzz/regressions/$name" ] || cp "tests/fuzz/regressions/$name"/* "$corpus"
    "$program" "${limits[@]}" -max_total_time="$seconds" -print_final_stats=1 -artifact_prefix="$findings/" "$corpus" \
        >"$log" 2>&1 || true
    retry_findings "$program" "$findings"
    # The last number behind these words of the log; there is none where the target did not even start.
    last() { grep -oE "$1: *[0-9]+" "$log" | tail -1 | grep -oE '[0-9]+$' || echo '-'; }
    local counts="$(last stat::number_of_executed_units) | $(last stat::average_exec_per_sec) | $(last cov)"
    minimize "$program" "$corpus"
    echo "| $name | $counts | $(files_in "$corpus") | $(files_in "$findings") |"
}

mkdir -p "$dir/findings"
{
    echo '| target | executions | per second | coverage edges | corpus | findings |'
    echo '|---|---|---|---|---|---|'
    for program in "$build"/bin/fuzz_*; do
        name=${program##*/fuzz_}
        ! chosen "$name" || hunt "$name"
    done
} | tee "$dir/table.md"
[ "$(wc -l <"$dir/table.md")" -gt 2 ] || { echo "no target is called $only" >&2; exit 2; }
[ "$(files_in "$dir/findings")" -eq 0 ]
