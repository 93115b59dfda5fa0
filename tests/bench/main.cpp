// dither-bench: every benchmark first proves its result against a reference and is skipped with an error if it is
// wrong.
#include <benchmark/benchmark.h>

BENCHMARK_MAIN();
