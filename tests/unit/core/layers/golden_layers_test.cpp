#include "core/compute/eigen_backend.hpp"
#include "core/config.hpp"
#include "core/error.hpp"
#include "core/layers/activation.hpp"
#include "core/layers/norm.hpp"
#include "core/layers/pool.hpp"
#include "core/layers/residual.hpp"
#include "core/layers/weighted.hpp"
#include "tests/golden/formulas.hpp"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <cmath>
#include <fstream>

namespace dither {
namespace {

using Json = nlohmann::json;

Shape shape_of(const Json& extents) {
    const auto e = extents.get<std::vector<std::int64_t>>();
    return e.size() == 2 ? Shape{e[0], e[1]} : Shape{e[0], e[1], e[2], e[3]};
}

std::unique_ptr<Layer> conv(const Shape& input, std::int64_t out, const Json& options, const Backend& backend) {
    const ConvGeometry geometry{.in_height = input[1],
                                .in_width = input[2],
                                .in_channels = input[3],
                                .out_channels = out,
                                .kernel = options.value("kernel", 3),
                                .stride = options.value("stride", 1),
                                .padding = options.value("padding", 0),
                                .groups = options.value("groups", 1)};
    return make_conv2d(geometry, options.value("bias", false), {}, backend, 2);
}

std::unique_ptr<Layer> residual(const Shape& input, std::int64_t out, const Json& options, const Backend& backend) {
    const std::int64_t stride = options["stride"];
    auto layer = make_residual(input, conv(input, out, {{"stride", stride}, {"padding", 1}}, backend),
                               stride == 1 ? nullptr : conv(input, out, {{"kernel", 1}, {"stride", stride}}, backend));
    CHECK(layer->absorb(Tail::relu));
    return layer;
}

std::unique_ptr<Layer> layer_of(const Json& c, const Backend& backend) {
    const std::string kind = c["kind"];
    const Json& options = c["options"];
    const Shape input = shape_of(c["input"]).with_batch(1);
    const Shape output = shape_of(c["output"]);
    const std::int64_t out = output[output.rank() - 1];
    const auto window = [&] { return PoolWindow{options["kernel"], options["stride"], options["padding"]}; };
    if (kind == "linear")
        return make_linear(input.count(), out, true, {}, backend, 2);
    if (kind == "conv2d")
        return conv(input, out, options, backend);
    if (kind == "relu")
        return make_relu(input);
    if (kind == "relu6")
        return make_relu6(input);
    if (kind == "tanh")
        return make_tanh(input);
    if (kind == "hard_tanh")
        return make_hard_tanh(input);
    if (kind == "max_pool")
        return make_max_pool(input, window());
    if (kind == "avg_pool")
        return make_average_pool(input, window());
    if (kind == "global_pool")
        return make_global_pool(input);
    if (kind == "batch_norm")
        return make_batch_norm(input);
    if (kind == "group_norm")
        return make_group_norm(input, options["groups"]);
    require(kind == "residual", "unknown kind {}", kind);
    return residual(input, out, options, backend);
}

double worst_deviation(std::span<const float> actual, const Json& expected) {
    require(actual.size() == expected.size(), "{} values, expected {}", actual.size(), expected.size());
    double largest = 1e-3;
    double worst = 0;
    for (std::size_t i = 0; i < actual.size(); ++i) {
        const double value = expected[i];
        largest = std::max(largest, std::fabs(value));
        worst = std::max(worst, std::fabs(value - actual[i]));
    }
    return worst / largest;
}

/// The parameters of all layers within, in the order of their visits.
struct Parameters {
    explicit Parameters(Layer& layer) {
        std::int64_t count = 0;
        layer.visit([&](Layer& inner) {
            for (const ParameterSpec& spec : inner.parameters())
                count += spec.shape.count();
        });
        values.resize({count});
        gradients.resize({count});
        std::size_t first = 0;
        std::size_t index = 0;
        layer.visit([&](Layer& inner) {
            const std::size_t begin = first;
            for (const ParameterSpec& spec : inner.parameters()) {
                const auto size = static_cast<std::size_t>(spec.shape.count());
                const double base = spec.fan_in == 0 && spec.constant == 1 ? 1 : 0;
                golden::fill_wave(values.values().subspan(first, size), first, 0.5, base);
                first += size;
            }
            if (first > begin)
                inner.attach(index++, values.values().subspan(begin, first - begin),
                             gradients.values().subspan(begin, first - begin));
        });
    }

    Tensor values;
    Tensor gradients;
};

void check_case(const Json& c, const Backend& backend) {
    const std::string kind = c["kind"];
    const std::string options = c["options"].dump();
    CAPTURE(kind);
    CAPTURE(options);
    const auto layer = layer_of(c, backend);
    Parameters parameters(*layer);
    Tensor x(shape_of(c["input"]));
    golden::fill_wave(x.values(), 1000, c["reach"]);
    const Pass pass{.training = c["options"].value("mode", "train") == "train"};
    const Tensor y = layer->forward(std::move(x), pass);
    CHECK(y.shape() == shape_of(c["output"]));
    CHECK(worst_deviation(y.values(), c["y"]) < 2e-6);
    Tensor dy(y.shape());
    golden::fill_wave(dy.values(), 5000, 1);
    const Tensor dx = layer->backward(std::move(dy), pass, true);
    CHECK(worst_deviation(dx.values(), c["dx"]) < 5e-6);
    if (c.contains("gradients"))
        CHECK(worst_deviation(parameters.gradients.values().first(c["gradients"].size()), c["gradients"]) < 5e-6);
    if (c.contains("running"))
        CHECK(worst_deviation(parameters.values.values().last(c["running"].size()), c["running"]) < 2e-6);
}

TEST_SUITE("core/layers/golden_layers") {
    TEST_CASE("every kind of layer computes what PyTorch computes, by every instruction set") {
        const Json cases = Json::parse(std::ifstream(DITHER_GOLDEN_DIR "/layers.json"));
        for (const std::string_view instruction_set : eigen_instruction_sets()) {
            CAPTURE(instruction_set);
            const auto backend = make_eigen_backend(instruction_set);
            for (const Json& c : cases)
                check_case(c, *backend);
        }
    }
}

}  // namespace
}  // namespace dither
