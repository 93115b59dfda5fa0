#!/usr/bin/env bash
# A short version of tests/chaos/hostile.sh: malformed traffic is refused and logged, and changes no bit of the model.
source "$(dirname "$0")/lib.sh"
BIN=$bin timeout 300 tests/chaos/hostile.sh "$work/hostile" --rounds 60 --times 5 --flood 0 --short
