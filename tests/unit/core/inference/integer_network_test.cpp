#include "core/inference/integer_network.hpp"

#include "core/error.hpp"
#include "tests/unit/allocation_counter.hpp"
#include "tests/unit/core/inference/converted.hpp"

#include <doctest/doctest.h>

#include <limits>

namespace dither {
namespace {

using testing::Converted;
using testing::random_tensor;
using testing::same_bits;

struct Widths {
    int weights;
    int activations;
};

constexpr Widths kWidths[] = {{8, 8}, {4, 4}, {2, 2}, {4, 8}, {8, 3}, {7, 6}};

QuantizeOptions quantize_with(const Widths& widths) {
    QuantizeOptions quantize;
    quantize.weights.bits = widths.weights;
    quantize.activations.bits = widths.activations;
    return quantize;
}

LayerOptions layer(std::string kind) {
    return {.kind = std::move(kind)};
}

LayerOptions conv(std::int64_t channels, std::int64_t kernel = 3, std::int64_t stride = 1, std::int64_t padding = 1,
                  std::int64_t groups = 1, bool bias = true) {
    return {.kind = "conv2d",
            .channels = channels,
            .kernel = kernel,
            .stride = stride,
            .padding = padding,
            .groups = groups,
            .bias = bias};
}

LayerOptions pool(std::string kind, std::int64_t kernel, std::int64_t stride, std::int64_t padding = 0) {
    return {.kind = std::move(kind), .kernel = kernel, .stride = stride, .padding = padding};
}

LayerOptions linear(std::int64_t outputs, bool bias = true) {
    return {.kind = "linear", .outputs = outputs, .bias = bias};
}

LayerOptions residual(std::vector<LayerOptions> body, std::vector<LayerOptions> shortcut = {}) {
    return {.kind = "residual", .body = std::move(body), .shortcut = std::move(shortcut)};
}

ModelOptions model_of(std::vector<LayerOptions> layers) {
    return {.name = "layers", .layers = std::move(layers)};
}

/// Every kind of layer, in orders that fuse and in orders that do not.
std::vector<ModelOptions> described_models() {
    return {
        model_of({conv(5), layer("batch_norm"), layer("relu"), pool("max_pool", 2, 2), conv(7, 3, 2), layer("relu6"),
                  pool("avg_pool", 3, 2, 1), linear(11), layer("tanh"), linear(10, false)}),
        model_of({layer("hard_tanh"), conv(9, 5, 1, 2, 3, false), layer("relu"), layer("batch_norm"),
                  pool("max_pool", 3, 2, 1), layer("dropout"), conv(9, 3, 1, 1, 9), pool("max_pool", 2, 2),
                  layer("global_pool"), linear(10)}),
        model_of({conv(16), layer("relu"),
                  residual({conv(16), layer("batch_norm"), layer("relu"), conv(16), layer("batch_norm")}),
                  layer("relu"), residual({conv(6, 3, 2)}, {conv(6, 1, 2, 0), layer("tanh")}),
                  residual({layer("relu")}), layer("batch_norm"), pool("avg_pool", 2, 2), linear(10)}),
        model_of({linear(13), layer("relu"), residual({linear(13), layer("relu")}), layer("batch_norm"),
                  layer("dropout"), linear(10)}),
        model_of({layer("batch_norm"), residual({layer("batch_norm")}), conv(4), pool("max_pool", 2, 2),
                  layer("batch_norm"), layer("relu"), conv(4, 1, 1, 0), layer("relu"), conv(4, 3, 1, 2), linear(10),
                  layer("relu")}),
    };
}

void check_bits(const ModelOptions& options, const Shape& sample, const QuantizeOptions& quantize) {
    Converted converted(options, sample, quantize, 8);
    converted.calibrate();
    IntegerNetwork network(deserialize_integer_model(serialize(converted.convert())), Converted::kBatch);
    for (const std::int64_t batch : {Converted::kBatch, std::int64_t{1}, std::int64_t{3}}) {
        Tensor x = random_tensor(sample.with_batch(batch), 40 + static_cast<std::uint32_t>(batch));
        for (float& value : x.values())
            value *= 1.5F;  // beyond the calibrated range too
        CHECK(same_bits(network.run(x), converted.forward(x)));
    }
}

std::string refusal_of(Converted& converted) {
    try {
        converted.convert();
    } catch (const InputError& error) {
        return error.what();
    }
    return "";
}

bool contains(const std::string& text, std::string_view part) {
    INFO(text);
    CHECK(text.find(part) != std::string::npos);
    return text.find(part) != std::string::npos;
}

TEST_SUITE("core/inference/integer_network") {
    TEST_CASE("the models of the zoo give the bits of the quantized forward pass at every width") {
        for (const Widths& widths : kWidths) {
            CAPTURE(widths.weights);
            CAPTURE(widths.activations);
            const QuantizeOptions quantize = quantize_with(widths);
            check_bits({.name = "mlp"}, {1, 28, 28, 1}, quantize);
            check_bits({.name = "cnn2"}, {1, 28, 28, 1}, quantize);
            check_bits({.name = "cnn4"}, {1, 16, 16, 3}, quantize);
            check_bits({.name = "resnet8"}, {1, 32, 32, 3}, quantize);
            check_bits({.name = "mobilenet"}, {1, 16, 16, 3}, quantize);
        }
    }

    TEST_CASE("every kind of layer in any order gives the bits of the quantized forward pass") {
        const std::vector<ModelOptions> models = described_models();
        for (std::size_t i = 0; i < models.size(); ++i)
            for (const Widths& widths : kWidths) {
                CAPTURE(i);
                CAPTURE(widths.weights);
                CAPTURE(widths.activations);
                check_bits(models[i], {1, 12, 12, 3}, quantize_with(widths));
            }
    }

    TEST_CASE("schemes and observers of either operand keep the bits") {
        for (const std::string_view weights : {"per_tensor_symmetric", "per_channel_symmetric"})
            for (const std::string_view activations : {"per_tensor_symmetric", "per_tensor_affine"})
                for (const Observer observer : {Observer::minmax, Observer::percentile, Observer::mse}) {
                    CAPTURE(weights);
                    CAPTURE(activations);
                    QuantizeOptions quantize;
                    REQUIRE(set_scheme(quantize.weights, weights));
                    REQUIRE(set_scheme(quantize.activations, activations));
                    quantize.activations.observer = observer;
                    check_bits(described_models()[0], {1, 12, 12, 3}, quantize);
                }
    }

    TEST_CASE("learned ranges keep the bits, and are refused before anybody learnt them") {
        for (const Observer observer : {Observer::lsq, Observer::lsq_plus, Observer::pact}) {
            QuantizeOptions quantize = quantize_with({3, 4});
            quantize.weights.observer = Observer::lsq;
            quantize.activations.observer = observer;
            Converted converted({.name = "resnet8"}, {1, 16, 16, 3}, quantize, 8);
            CHECK(contains(refusal_of(converted), "nobody learnt"));
            const Tensor x = random_tensor({Converted::kBatch, 16, 16, 3}, 5);
            converted.model->forward(x, {.plan = &converted.plan, .training = true});
            IntegerNetwork network(converted.convert(), Converted::kBatch);
            CHECK(same_bits(network.run(x), converted.forward(x)));
        }
    }

    TEST_CASE("an input of zeros and inputs on the grid are encoded like all others") {
        Converted converted({.name = "cnn2"}, {1, 28, 28, 1}, {}, 4);
        converted.calibrate();
        const IntegerModel model = converted.convert();
        IntegerNetwork network(model, 1);
        const float scale = std::get<ProductOperation>(model.steps.front().operation).grid.scale;
        for (const float step : {0.0F, scale, 0.5F * scale, 1.5F * scale, 0.25F * scale}) {
            Tensor x({1, 28, 28, 1});
            for (std::size_t i = 0; i < x.values().size(); ++i)
                x.values()[i] = step * static_cast<float>(static_cast<int>(i % 31) - 15);
            CHECK(same_bits(network.run(x), converted.forward(x)));
        }
    }

    TEST_CASE("a run allocates nothing") {
        if (!kCountsAllocations)
            return;
        for (const ModelOptions& options : described_models()) {
            Converted converted(options, {1, 12, 12, 3}, {}, 8);
            converted.calibrate();
            IntegerNetwork network(converted.convert(), Converted::kBatch);
            const Tensor many = random_tensor({Converted::kBatch, 12, 12, 3}, 1);
            const Tensor few = random_tensor({2, 12, 12, 3}, 2);
            const std::size_t before = allocations;
            network.run(few);
            network.run(many);
            network.run(few);
            CHECK(allocations == before);
        }
    }

    TEST_CASE("what a network cannot take is refused") {
        Converted converted({.name = "cnn2"}, {1, 28, 28, 1}, {}, 8);
        converted.calibrate();
        IntegerNetwork network(converted.convert(), 2);
        CHECK(network.max_batch() == 2);
        CHECK(network.sample_shape() == Shape{1, 28, 28, 1});
        CHECK_THROWS_AS(network.run(Tensor({3, 28, 28, 1})), PreconditionError);
        CHECK_THROWS_AS(network.run(Tensor({2, 28, 1, 28})), PreconditionError);
        CHECK_THROWS_AS(network.run(Tensor()), PreconditionError);
        Tensor x({1, 28, 28, 1});
        x.values()[5] = std::numeric_limits<float>::quiet_NaN();
        CHECK_THROWS_AS(network.run(x), TrainingError);
    }

    TEST_CASE("a layer without an integer form is named with the reason") {
        const auto refused = [](QuantizeOptions quantize, int bits, std::string_view reason) {
            Converted converted({.name = "cnn2"}, {1, 28, 28, 1}, quantize, bits);
            converted.calibrate();
            const std::string text = refusal_of(converted);
            return contains(text, "conv1") && contains(text, reason);
        };
        QuantizeOptions quantize;
        CHECK(refused(quantize, 32, "weights have 32 bits"));
        CHECK(refused(quantize, 12, "weights have 12 bits"));
        quantize.weights.format8 = Format8::e4m3;
        CHECK(refused(quantize, 8, "floating-point"));
        for (const std::string_view scheme : {"per_channel_affine", "per_sample_symmetric"}) {
            quantize = {};
            REQUIRE(set_scheme(quantize.weights, scheme));
            CHECK(refused(quantize, 8, scheme));
        }
        for (const std::string_view scheme : {"per_channel_affine", "per_sample_affine"}) {
            quantize = {};
            REQUIRE(set_scheme(quantize.activations, scheme));
            CHECK(refused(quantize, 8, scheme));
        }
        quantize = {};
        quantize.activations.rounding = Rounding::stochastic;
        CHECK(refused(quantize, 8, "at random"));
    }

    TEST_CASE("a model that was not calibrated is refused") {
        Converted converted({.name = "cnn2"}, {1, 28, 28, 1}, {}, 8);
        CHECK(contains(refusal_of(converted), "calibrate first"));
        converted.calibrate();
        CHECK(refusal_of(converted).empty());
        converted.model->reset();
        CHECK(contains(refusal_of(converted), "calibrate first"));
    }

    TEST_CASE("norms that need the batch or the sample are refused") {
        ModelOptions options = model_of({conv(4), layer("batch_norm"), linear(10)});
        options.norm_statistics = NormStatistics::local;
        Converted local(options, {1, 12, 12, 3}, {}, 8);
        local.calibrate();
        CHECK(contains(refusal_of(local), "bn1"));
        LayerOptions group_norm{.kind = "group_norm", .groups = 2};
        Converted grouped(model_of({conv(4), group_norm, linear(10)}), {1, 12, 12, 3}, {}, 8);
        grouped.calibrate();
        CHECK(contains(refusal_of(grouped), "gn1"));
    }
}

}  // namespace
}  // namespace dither
