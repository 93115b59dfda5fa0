#!/usr/bin/env bash
# Installs what is missing, builds the release preset and runs every test. Safe to repeat.
#
#     ./tests/run.sh                 all tests
#     ./tests/run.sh --preset asan   the same under another preset (debug, asan, tsan)
set -euo pipefail
cd "$(dirname "$0")/.."

preset=release
[ "${1:-}" = --preset ] && preset=$2

./examples/packages.sh
cmake --preset "$preset" >/dev/null
cmake --build --preset "$preset"
# mpirun refuses to run as root, and more ranks than cores, unless it is told that this is meant.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
ctest --preset "$preset" --timeout 600 </dev/null
