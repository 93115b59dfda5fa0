#include "core/inference/integer_model.hpp"

#include "core/error.hpp"
#include "core/sha256.hpp"
#include "tests/unit/core/inference/converted.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <limits>

namespace dither {
namespace {

using testing::Converted;

IntegerModel converted_model(const std::string& name, const Shape& sample, int bits) {
    Converted converted({.name = name}, sample, {}, bits);
    converted.calibrate();
    IntegerModel model = converted.convert();
    model.name = name;
    model.quantization = "in words";
    model.scaling = {{0.25F, 0.5F}};
    return model;
}

std::string refusal_of(std::span<const std::byte> bytes) {
    try {
        deserialize_integer_model(bytes);
    } catch (const FormatError& error) {
        return error.what();
    }
    return "";
}

/// The file with a body that was changed, and a digest that fits it.
std::vector<std::byte> sealed(std::vector<std::byte> file) {
    const std::size_t end = file.size() - std::tuple_size_v<Sha256>;
    const Sha256 digest = sha256(std::span(file).first(end));
    std::memcpy(file.data() + end, digest.data(), digest.size());
    return file;
}

TEST_SUITE("core/inference/integer_model") {
    TEST_CASE("packed codes come back at every width and count") {
        for (int bits = 2; bits <= 8; ++bits)
            for (std::size_t count = 0; count < 20; ++count) {
                const int limit = (1 << (bits - 1)) - 1;
                std::vector<std::int8_t> codes;
                for (std::size_t i = 0; i < count; ++i)
                    codes.push_back(static_cast<std::int8_t>(static_cast<int>(i * 37) % (2 * limit + 1) - limit));
                const std::vector<std::uint8_t> packed = pack_codes(codes, bits);
                CHECK(packed.size() == (count * static_cast<std::size_t>(bits) + 7) / 8);
                std::vector<std::int8_t> back(count);
                unpack_codes(packed, bits, back);
                CHECK(back == codes);
            }
    }

    TEST_CASE("a file gives the model back") {
        for (const char* name : {"cnn2", "resnet8"}) {
            const Shape sample = std::string_view(name) == "cnn2" ? Shape{1, 28, 28, 1} : Shape{1, 32, 32, 3};
            const IntegerModel model = converted_model(name, sample, 5);
            CHECK(deserialize_integer_model(serialize(model)) == model);
        }
    }

    TEST_CASE("a file is as large as its bits") {
        const double parameters = 206'922 * 4;
        const auto share = [&](int bits) {
            const IntegerModel model = converted_model("cnn2", {1, 28, 28, 1}, bits);
            CHECK(model.weight_count() == 206'736);
            CHECK(model.weight_bits() == 206'736 * static_cast<std::size_t>(bits));
            return static_cast<double>(serialize(model).size()) / parameters;
        };
        CHECK(share(8) < 0.26);
        CHECK(share(4) < 0.135);
        CHECK(share(2) < 0.07);
    }

    TEST_CASE("any changed, missing or additional byte is refused") {
        const std::vector<std::byte> file = serialize(converted_model("cnn2", {1, 12, 12, 1}, 2));
        for (std::size_t i = 0; i < file.size(); i += i < 200 ? 1 : 97) {
            std::vector<std::byte> changed = file;
            changed[i] ^= std::byte{0x10};
            CHECK_FALSE(refusal_of(changed).empty());
            CHECK_FALSE(refusal_of(std::span(file).first(i)).empty());
        }
        std::vector<std::byte> longer = file;
        longer.push_back(std::byte{0});
        CHECK_FALSE(refusal_of(longer).empty());
    }

    TEST_CASE("whatever a sealed body says, it runs or is refused") {
        const std::vector<std::byte> file = serialize(converted_model("resnet8", {1, 8, 8, 3}, 2));
        for (std::size_t i = 20; i + 32 < file.size(); i += i < 400 ? 1 : 61)
            for (const unsigned value : {0U, 1U, 0x7fU, 0xffU}) {
                std::vector<std::byte> changed = file;
                changed[i] = std::byte{static_cast<unsigned char>(value)};
                try {
                    const IntegerModel model = deserialize_integer_model(sealed(changed));
                    IntegerNetwork(model, 1).run(Tensor(model.sample));
                } catch (const FormatError&) {
                }
            }
        std::vector<std::byte> shorter = file;
        shorter.erase(shorter.end() - 33);
        CHECK_FALSE(refusal_of(sealed(shorter)).empty());
    }

    TEST_CASE("a model that cannot be run is refused, with the step") {
        const IntegerModel good = converted_model("cnn2", {1, 12, 12, 1}, 4);
        const auto refused = [&](const auto& spoil) {
            IntegerModel model = good;
            spoil(model);
            CHECK_THROWS_AS(check(model), FormatError);
            CHECK_THROWS_AS(serialize(model), FormatError);
        };
        const auto product = [](IntegerModel& m) -> ProductOperation& {
            return std::get<ProductOperation>(m.steps.front().operation);
        };
        refused([](IntegerModel& m) { m.steps.clear(); });
        refused([](IntegerModel& m) { m.steps.pop_back(); });
        refused([](IntegerModel& m) { m.outputs = 9; });
        refused([](IntegerModel& m) { m.steps[1].input = 9; });
        refused([](IntegerModel& m) { m.steps[1].operation = AddOperation{.other = 7}; });
        refused([](IntegerModel& m) { m.steps[1].operation = AffineOperation{}; });
        refused([&](IntegerModel& m) { product(m).bits = 9; });
        refused([&](IntegerModel& m) { product(m).name = "conv\x1b[2J"; });
        refused([](IntegerModel& m) { m.name = "two\nlines"; });
        refused([](IntegerModel& m) { m.quantization.push_back('\0'); });
        refused([&](IntegerModel& m) { product(m).scales[0] = 0; });
        refused([&](IntegerModel& m) { product(m).scales[0] = std::numeric_limits<float>::infinity(); });
        refused([&](IntegerModel& m) { product(m).bias.pop_back(); });
        refused([&](IntegerModel& m) { product(m).grid.zero_point = 300; });
        refused([&](IntegerModel& m) { product(m).grid.scale = -1; });
        refused([&](IntegerModel& m) { product(m).weights[0] = 0x88; });  // -8, below the codes
        refused([&](IntegerModel& m) { product(m).weights.pop_back(); });
        refused([&](IntegerModel& m) { product(m).geometry.stride = 0; });
        refused([&](IntegerModel& m) { product(m).geometry.in_channels = 1 << 30; });
        refused([](IntegerModel& m) { m.steps.resize(kMaxSteps + 1, m.steps.back()); });
        refused([](IntegerModel& m) {
            for (Step& step : m.steps)
                if (auto* pool = std::get_if<PoolOperation>(&step.operation))
                    pool->kernel_height = 16;
        });
    }

    TEST_CASE("a stride that a plan would take hours for is refused") {
        ProductOperation product{.name = "conv1", .weights = {1}, .scales = {1}};
        product.geometry = {.in_height = 1, .in_width = 1, .in_channels = 1, .out_channels = 1, .kernel = 1};
        const PoolOperation pool{.kernel_height = 1, .kernel_width = 1, .stride = 1, .flat = true};
        IntegerModel model{.sample = {1, 1, 1, 1}, .outputs = 1};
        model.steps = {{.input = 0, .operation = product}, {.input = 1, .operation = pool}};
        check(model);
        std::get<ProductOperation>(model.steps[0].operation).geometry.stride = 1 << 20;
        CHECK_THROWS_AS(check(model), FormatError);
    }

    TEST_CASE("a small file whose values of a batch take tens of gigabytes is refused") {
        ProductOperation product{.name = "fc1", .linear = true, .weights = {1}, .scales = {1}};
        product.geometry = {.in_height = 1, .in_width = 1, .in_channels = 1, .out_channels = 1, .kernel = 1};
        const PoolOperation pool{
            .mean = true, .kernel_height = 1 << 12, .kernel_width = 1 << 12, .stride = 1, .flat = true};
        IntegerModel model{.sample = {1, 1 << 12, 1 << 12, 1}, .outputs = 1};
        // Behind the linear layer the clamped images are kept for the whole batch.
        model.steps = {{.input = 0, .operation = pool},
                       {.input = 1, .operation = product},
                       {.input = 0, .operation = ClampOperation{.low = 0, .high = 1}},
                       {.input = 3, .operation = pool}};
        IntegerNetwork(model, 1);
        CHECK_THROWS_AS(IntegerNetwork(model, 1 << 10), FormatError);
    }
}

}  // namespace
}  // namespace dither
