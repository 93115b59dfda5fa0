#!/usr/bin/env bash
# From a fresh Debian 12 machine to a federation in few bits: installs what is missing, builds the release preset and trains
# a CNN on Fashion-MNIST with 100 clients under mpirun. Safe to repeat; the second time it is quick.
#
#     ./examples/quickstart.sh [--set section.key=value]...
set -euo pipefail
cd "$(dirname "$0")/.."

./examples/packages.sh
cmake --preset release >/dev/null
cmake --build --preset release --target dither-simulate

out=runs/quickstart
rm -rf "$out"
# mpirun refuses to run as root, and more ranks than cores, unless it is told that this is meant.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
mpirun --oversubscribe -n 5 build/release/bin/dither-simulate examples/jobs/fashion_cnn2.toml --out "$out" "$@"
