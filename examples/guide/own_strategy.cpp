#include "own_strategy.hpp"
#include "examples/simulate/simulate.hpp"

int main(int argc, char** argv) {
    return dither::simulate(argc, argv, {.strategy = guide::make_strategy});
}
