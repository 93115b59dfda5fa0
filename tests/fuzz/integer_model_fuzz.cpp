// Files of integer models, and bodies behind the header and the digest that they demand. A model that is read is
// written as it was, and runs.
#include "core/error.hpp"
#include "core/inference/integer_model.hpp"
#include "core/inference/integer_network.hpp"
#include "core/little_endian.hpp"
#include "tests/fuzz/target.hpp"

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <string_view>
#include <utility>

namespace dither::fuzz {
namespace {

constexpr std::string_view kMagic = "DITHINT1";
constexpr std::size_t kLengthAt = kMagic.size() + sizeof(std::uint32_t);
constexpr std::size_t kHeaderBytes = kLengthAt + sizeof(std::uint64_t);
constexpr std::int64_t kMostWork = 1 << 16;  ///< multiplications and values of a model that is run

Bytes file_around(std::span<const std::byte> body) {
    Bytes file = to_bytes(kMagic);
    file.resize(kHeaderBytes);
    store_little(std::uint32_t{1}, file.data() + kMagic.size());
    store_little(std::uint64_t{body.size()}, file.data() + kLengthAt);
    append(file, body);
    return sealed(std::move(file));
}

bool is_small(const IntegerModel& model) {
    const std::vector<Shape> shapes = check(model);
    const auto values = std::accumulate(shapes.begin(), shapes.end(), std::int64_t{0},
                                        [](std::int64_t sum, const Shape& shape) { return sum + shape.count(); });
    return values <= kMostWork && model.macs() <= static_cast<double>(kMostWork);
}

void run_network(const IntegerModel& model) {
    IntegerNetwork network(model, 2);
    const Tensor x(model.sample.with_batch(2));
    const Tensor& y = network.run(x);
    require(y.shape() == Shape{2, model.outputs}, "two samples give {}", y.shape().str());
}

void read(std::span<const std::byte> file) {
    try {
        const IntegerModel model = deserialize_integer_model(file);
        require(serialize(model) == Bytes(file.begin(), file.end()), "an integer model is not what its contents give");
        if (is_small(model))
            run_network(model);
    } catch (const FormatError&) {
    }
}

ProductOperation product(const char* name, const ConvGeometry& geometry, int bits) {
    ProductOperation product{.name = name, .linear = geometry.kernel == 1, .geometry = geometry, .bits = bits};
    std::vector<std::int8_t> codes(product.weight_count());
    for (std::size_t i = 0; i < codes.size(); ++i)
        codes[i] = static_cast<std::int8_t>(i % 3) - 1;
    product.weights = pack_codes(codes, bits);
    product.scales.assign(static_cast<std::size_t>(geometry.out_channels), 0.5F);
    product.bias.assign(product.linear ? product.scales.size() : 0, 0.25F);
    product.grid = {.scale = 0.1F, .bits = 8, .zero_point = 128, .lowest = 1};
    return product;
}

/// One step of every kind.
IntegerModel sample_model(int bits) {
    IntegerModel model{.name = "net", .quantization = "W4A8", .sample = {1, 6, 6, 2}, .outputs = 3};
    model.scaling = {{0.25F, 0.5F}};
    model.steps.push_back({0, product("conv1",
                                      {.in_height = 6,
                                       .in_width = 6,
                                       .in_channels = 2,
                                       .out_channels = 2,
                                       .kernel = 3,
                                       .stride = 1,
                                       .padding = 1},
                                      bits)});
    model.steps.push_back({1, AffineOperation{"bn1", {0, 1}, {1, 2}, {0, 0.5F}}});
    model.steps.push_back({2, AddOperation{0}});
    model.steps.push_back({3, ClampOperation{0, 6}});
    model.steps.push_back({4, TanhOperation{}});
    model.steps.push_back({5, PoolOperation{}});
    model.steps.push_back(
        {6, product("fc1", {.in_height = 1, .in_width = 1, .in_channels = 18, .out_channels = 3, .kernel = 1}, bits)});
    return model;
}

}  // namespace

std::vector<Bytes> seeds() {
    std::vector<Bytes> seeds;
    for (const int bits : {2, 4, 8}) {
        const Bytes file = serialize(sample_model(bits));
        const auto body = std::span(file).subspan(kHeaderBytes, file.size() - kHeaderBytes - sizeof(Sha256));
        seeds.push_back(file);
        seeds.emplace_back(body.begin(), body.end());
    }
    return seeds;
}

void run(std::span<const std::byte> bytes) {
    read(bytes);
    read(file_around(bytes));
}

}  // namespace dither::fuzz
