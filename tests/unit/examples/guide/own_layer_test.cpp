#include "examples/guide/own_layer.hpp"

#include "tests/unit/gradient_check.hpp"

#include <doctest/doctest.h>

using namespace dither::testing;

TEST_SUITE("examples/guide/own_layer") {
    TEST_CASE("its gradients are those of its forward pass, whoever else holds its tensors") {
        guide::Gain layer(5);
        const LayerGradientErrors errors = check_layer(layer, random_tensor({7, 5}, 1));
        CHECK(errors.input < 1e-4);
        CHECK(errors.parameters < 1e-4);
        CHECK(errors.in_place_agrees);
    }
}
