#include "own_policy.hpp"
#include "examples/simulate/simulate.hpp"

int main(int argc, char** argv) {
    return dither::simulate(argc, argv, {.policy = guide::make_policy});
}
