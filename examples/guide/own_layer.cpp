#include "own_layer.hpp"
#include "examples/simulate/simulate.hpp"

int main(int argc, char** argv) {
    return dither::simulate(argc, argv, {.shared = {.model = guide::make_network}});
}
