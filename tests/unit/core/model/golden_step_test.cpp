#include "core/compute/eigen_backend.hpp"
#include "core/config.hpp"
#include "tests/golden/golden_step.hpp"

#include <doctest/doctest.h>

namespace dither {
namespace {

TEST_SUITE("core/model/golden_step") {
    TEST_CASE("a CNN-2 step gives the loss and the gradients that PyTorch computes, by every instruction set") {
        const GoldenStep golden(DITHER_GOLDEN_DIR "/cnn2_step.json");
        const ModelInput input{.sample = {1, 28, 28, 1}, .outputs = 10, .max_batch = golden.batch.inputs.shape()[0]};
        const auto loss = make_loss("cross_entropy");
        for (const std::string_view instruction_set : eigen_instruction_sets()) {
            CAPTURE(instruction_set);
            const auto backend = make_eigen_backend(instruction_set);
            const auto model = make_model({.name = "cnn2"}, {}, input, *backend);
            CHECK(golden.deviation(*model, *loss) < 1e-4);
        }
    }
}

}  // namespace
}  // namespace dither
