#!/usr/bin/env bash
# Dither installed: a project elsewhere finds it, builds the guide's programs with it, and gets the models of those that
# were built here. Nothing that is installed points back to where it was built.
source "$(dirname "$0")/lib.sh"
export ASAN_OPTIONS=detect_leaks=0  # OpenMPI leaks by design
build=$(dirname "$bin")
cached() { sed -n "s/^$1:[A-Z]*=//p" "$build/CMakeCache.txt"; }

cmake --install "$build" --prefix "$work/prefix" --component development >"$work/log" 2>&1 || fail "$(tail -5 "$work/log")"
grep -rF "$PWD" "$work/prefix" --include='*.cmake' && fail "what is installed points to its source"
cp -r examples/guide "$work/guide"
cmake -S "$work/guide" -B "$work/guide/build" -G Ninja -DCMAKE_PREFIX_PATH="$work/prefix" -DCMAKE_BUILD_TYPE=Release \
    -DCMAKE_CXX_COMPILER="$(cached CMAKE_CXX_COMPILER)" -DCMAKE_C_COMPILER="$(cached CMAKE_C_COMPILER)" >"$work/log" 2>&1 ||
    fail "configuring: $(tail -20 "$work/log")"
cmake --build "$work/guide/build" -j2 >"$work/log" 2>&1 || fail "building: $(tail -20 "$work/log")"
for program in guide_own_codec guide_own_data guide_own_layer guide_own_policy guide_own_strategy; do
    for place in "$bin" "$work/guide/build"; do
        "$place/$program" "$work/job.toml" --set federation.strategy.kind=fedavgm --set precision.policy=gradient --quiet \
            --workers 2 --out "$work/run" >/dev/null || fail "$place/$program"
        hash_of "$work/run" >>"$work/$program"
        rm -r "$work/run"
    done
    [ "$(sort -u "$work/$program" | wc -l)" -eq 1 ] || fail "$program: another model where Dither is installed"
done
