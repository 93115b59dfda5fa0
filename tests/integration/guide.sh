#!/usr/bin/env bash
# The user's guide: what it quotes is what its files say, every command of it runs, and each part of one's own is what
# really ran; for any number of workers and ranks, and after an interruption, to the same bits.
source "$(dirname "$0")/lib.sh"
guide=$PWD/examples/guide
export ASAN_OPTIONS=detect_leaks=0  # OpenMPI leaks by design
export PATH=$bin:$PATH

# A quotation is a stretch of whole lines of a file that the text before it names last.
awk -v out="$work" '
    /^```(cpp|toml)$/ { inside = 1; ++n; print file >(out "/quoted." n ".of"); next }
    /^```$/ { inside = 0; next }
    inside { print >(out "/quoted." n); next }
    { while (match($0, /`own_[a-z]+\.(cpp|hpp|toml)`|`job\.toml`/)) {
          file = substr($0, RSTART + 1, RLENGTH - 2)
          $0 = substr($0, RSTART + RLENGTH)
      } }' "$guide/README.md"
[ "$(ls "$work"/quoted.*.of | wc -l)" -ge 12 ] || fail "the quotations were not found"
for quotation in "$work"/quoted.*.of; do
    file=$(cat "$quotation")
    [[ $'\n'$(cat "$guide/$file")$'\n' == *$'\n'"$(cat "${quotation%.of}")"$'\n'* ]] ||
        fail "the guide quotes what $file does not say: $(head -3 "${quotation%.of}")"
done
for file in "$guide"/*.{hpp,toml}; do
    grep -qF "\`${file##*/}\`" "$guide/README.md" || fail "the guide does not mention $file"
done

# Every command, in order.
cd "$work"
ln -s "${guide%/guide}" examples
sed -n '/^```sh$/,/^```$/p' "$guide/README.md" | grep -v '^```' >commands
bash -euo pipefail commands >stdout 2>stderr || fail "the commands of the guide: $(tail -3 stderr)"
[ "$(grep -c '^ *accuracy' stdout)" -eq 7 ] || fail "not every run reports"
says() { jq -e "$2" "runs/$1/summary.json" >/dev/null || fail "$1: not $2"; }
rounds_say() { jq -se "$2" "runs/$1/rounds.jsonl" >/dev/null || fail "$1: not $2"; }
for run in own_data own_spirals own_model own_layer own_policy own_codec own_strategy; do
    says $run '.rounds == 12 and .final_accuracy > 0.7'
done

# Each part ran.
[ "$(hash_of runs/own_spirals)" != "$(hash_of runs/own_data)" ] || fail "own data is not what was trained on"
rounds_say own_model '.[0].layers | map(.name) == ["fc1", "fc2", "fc3"]'
rounds_say own_layer '.[0].layers | map(.name) == ["fc1", "gain1", "fc2"]'
rounds_say own_policy 'any(.reason | test("of at most"))'
rounds_say own_policy '[.[].layers[].bits.forward] | unique == [4, 8]'
says own_policy '.bit_ops_ratio_fp32 < 0.25'
for run in own_codec own_strategy; do
    [ "$(hash_of runs/$run)" != "$(hash_of runs/own_data)" ] || fail "$run changes nothing"
done
refuses 2 'varint' dither-simulate examples/guide/job.toml --set codec.uplink.kind=varint --quiet --out runs/unknown
grep -q '^| calm | 3 | 0 |' runs/own_study/report.md || fail "the study has no row of its own policy"

# The same bits with other workers and ranks, and resumed: so the state that a part keeps is whole.
again() {  # RUN PROGRAM SETTING...
    local run=$1 program=$2
    shift 2
    local command=("$program" examples/guide/job.toml --quiet "$@")
    "${command[@]}" --workers 1 --out "runs/$run-alone" >/dev/null
    "${command[@]}" --workers 3 --set job.rounds=5 --out "runs/$run-resumed" >/dev/null
    "${command[@]}" --workers 3 --resume --out "runs/$run-resumed" >/dev/null
    for other in alone resumed; do
        [ "$(hash_of "runs/$run-$other")" = "$(hash_of "runs/$run")" ] || fail "$run, $other: another model"
    done
    if command -v mpirun >/dev/null && ldd "$bin/$program" | grep -q libmpi; then
        mpirun -n 3 "${command[@]}" --out "runs/$run-ranks" >/dev/null 2>stderr || fail "$run under mpirun: $(tail -3 stderr)"
        [ "$(hash_of "runs/$run-ranks")" = "$(hash_of "runs/$run")" ] || fail "$run under mpirun: another model"
    fi
}
again own_spirals guide_own_data
again own_layer guide_own_layer
again own_policy guide_own_policy --set precision.policy=gradient
again own_codec guide_own_codec --set codec.uplink.kind=varint --set codec.downlink.kind=varint
again own_strategy guide_own_strategy --set federation.strategy.kind=fedavgm
