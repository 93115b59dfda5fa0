#include "own_codec.hpp"
#include "examples/simulate/simulate.hpp"

int main(int argc, char** argv) {
    return dither::simulate(argc, argv, {.shared = {.codec = guide::make_codec}});
}
