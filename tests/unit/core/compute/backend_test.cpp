#include "core/compute/backend.hpp"

#include "core/compute/eigen_backend.hpp"
#include "core/config.hpp"
#include "core/error.hpp"
#include "core/rng.hpp"

#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <string>

namespace dither {
namespace {

/// Standard normal values; `lane` tells the tensors of one test apart.
Tensor random_tensor(const Shape& shape, std::uint32_t lane) {
    Tensor tensor(shape);
    Stream({.seed = 20, .lane = lane}).fill_normal(tensor.values());
    return tensor;
}

/// Every backend that this program can run, Eigen's once for each instruction set.
std::vector<std::unique_ptr<Backend>> all_backends() {
    std::vector<std::unique_ptr<Backend>> backends;
    for (const std::string_view set : eigen_instruction_sets())
        backends.push_back(make_eigen_backend(set));
    try {
        backends.push_back(make_backend({.backend = "onednn"}));
    } catch (const InputError& error) {
        MESSAGE(std::string(error.what()));
    }
    return backends;
}

std::string label(const Backend& backend) {
    return fmt::format("{}, {}", backend.name(), backend.instruction_set());
}

std::string label(const ConvGeometry& g) {
    return fmt::format("{}x{}, {} -> {} channels in {} groups, kernel {}, stride {}, padding {}", g.in_height,
                       g.in_width, g.in_channels, g.out_channels, g.groups, g.kernel, g.stride, g.padding);
}

/// Calls visit(x index, w index, y index) for every multiply-accumulate of the convolution, by its definition.
void for_each_mac(const ConvGeometry& g, std::int64_t items,
                  const std::function<void(std::int64_t, std::int64_t, std::int64_t)>& visit) {
    const std::int64_t group_in = g.in_channels / g.groups;
    const std::int64_t group_out = g.out_channels / g.groups;
    for (std::int64_t n = 0; n < items; ++n)
        for (std::int64_t oy = 0; oy < g.out_height(); ++oy)
            for (std::int64_t ox = 0; ox < g.out_width(); ++ox)
                for (std::int64_t ky = 0; ky < g.kernel; ++ky)
                    for (std::int64_t kx = 0; kx < g.kernel; ++kx) {
                        const std::int64_t iy = oy * g.stride + ky - g.padding;
                        const std::int64_t ix = ox * g.stride + kx - g.padding;
                        if (iy < 0 || iy >= g.in_height || ix < 0 || ix >= g.in_width)
                            continue;
                        for (std::int64_t c = 0; c < group_in; ++c)
                            for (std::int64_t o = 0; o < g.out_channels; ++o)
                                visit(((n * g.in_height + iy) * g.in_width + ix) * g.in_channels +
                                          o / group_out * group_in + c,
                                      ((ky * g.kernel + kx) * group_in + c) * g.out_channels + o,
                                      ((n * g.out_height() + oy) * g.out_width() + ox) * g.out_channels + o);
                    }
}

double worst_difference(std::span<const float> values, std::span<const double> expected) {
    double worst = 0;
    for (std::size_t i = 0; i < expected.size(); ++i)
        worst = std::max(worst, std::fabs(values[i] - expected[i]));
    return worst;
}

constexpr double kTolerance = 2e-4;  // sums of up to a few hundred products of standard normal values in fp32

/// Keeps every seventh value: what a gradient behind ReLU and max pooling is like.
void make_sparse(std::span<float> values) {
    for (std::size_t i = 0; i < values.size(); ++i)
        values[i] = i % 7 == 0 ? values[i] : 0;
}

void cut_to_bfloats(std::span<float> values) {
    for (float& value : values)
        value = std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) & 0xffff0000U);
}

/// The worst of the three operations against the definition, accumulated in double. A linear product is a convolution
/// of 1x1 images.
double product_error(Product& product, const ConvGeometry& g, std::int64_t items, bool sparse, bool bfloats = false) {
    Tensor x = random_tensor({items, g.in_height, g.in_width, g.in_channels}, 1);
    Tensor w = random_tensor({g.fan_in(), g.out_channels}, 2);
    const Tensor start = random_tensor({g.fan_in(), g.out_channels}, 3);
    Tensor dy = random_tensor({items, g.out_height(), g.out_width(), g.out_channels}, 4);
    if (sparse)
        make_sparse(dy.values());
    if (bfloats)
        for (Tensor* operand : {&x, &w, &dy})
            cut_to_bfloats(operand->values());

    std::vector<double> y(dy.values().size());
    std::vector<double> dx(x.values().size());
    std::vector<double> dw(start.values().begin(), start.values().end());
    for_each_mac(g, items, [&](std::int64_t xi, std::int64_t wi, std::int64_t yi) {
        y[yi] += static_cast<double>(x.data()[xi]) * w.data()[wi];
        dx[xi] += static_cast<double>(dy.data()[yi]) * w.data()[wi];
        dw[wi] += static_cast<double>(x.data()[xi]) * dy.data()[yi];
    });

    Tensor result_y(dy.shape());
    Tensor result_dx(x.shape());
    Tensor result_dw = start;
    product.pack_forward(w.values());
    product.pack_backward(w.values());
    product.forward(items, x.values(), result_y.values());
    product.backward_input(items, dy.values(), result_dx.values());
    product.add_weight_gradient(items, x.values(), dy.values(), result_dw.values());
    return std::max({worst_difference(result_y.values(), y), worst_difference(result_dx.values(), dx),
                     worst_difference(result_dw.values(), dw)});
}

double convolution_error(const Backend& backend, const ConvGeometry& g, std::int64_t items, bool sparse = false) {
    return product_error(*backend.convolution(g, items), g, items, sparse);
}

double linear_error(const Backend& backend, std::int64_t in, std::int64_t out, std::int64_t items) {
    const ConvGeometry g{.in_height = 1, .in_width = 1, .in_channels = in, .out_channels = out, .kernel = 1};
    return product_error(*backend.linear(in, out, items), g, items, false);
}

ConvGeometry geometry(std::int64_t height, std::int64_t width, std::int64_t in, std::int64_t out, std::int64_t kernel,
                      std::int64_t stride, std::int64_t padding, std::int64_t groups = 1) {
    return {height, width, in, out, kernel, stride, padding, groups};
}

/// Layers of real networks, in small, and what they never have but a user may ask for.
const ConvGeometry kGeometries[] = {
    geometry(28, 28, 1, 16, 3, 1, 1),     // first layers
    geometry(16, 16, 3, 16, 3, 1, 1),     //
    geometry(14, 14, 16, 32, 3, 1, 1),    //
    geometry(8, 8, 32, 64, 3, 2, 1),      // down by two, and its shortcut
    geometry(8, 8, 32, 64, 1, 2, 0),      //
    geometry(6, 6, 24, 40, 1, 1, 0),      // pointwise
    geometry(9, 7, 16, 16, 5, 1, 2),      // odd extents
    geometry(9, 7, 5, 7, 5, 2, 1),        //
    geometry(5, 8, 8, 8, 3, 3, 2),        //
    geometry(3, 3, 8, 16, 3, 1, 0),       // one position
    geometry(7, 7, 32, 32, 3, 1, 1, 32),  // depthwise
    geometry(9, 8, 24, 24, 3, 2, 1, 24),  //
    geometry(6, 5, 3, 3, 5, 1, 2, 3),     //
    geometry(7, 6, 12, 8, 3, 1, 1, 4),    // groups
    geometry(8, 8, 32, 64, 3, 2, 1, 2),   //
    geometry(6, 6, 4, 12, 1, 1, 0, 4),    //
    geometry(5, 5, 4, 1, 3, 1, 2),        // one channel
};

ConvGeometry arbitrary_geometry() {
    ConvGeometry g;
    g.kernel = *rc::gen::inRange(1, 5);
    g.stride = *rc::gen::inRange(1, 4);
    g.padding = *rc::gen::inRange(0, 3);
    g.in_height = g.kernel + *rc::gen::inRange(0, 8);
    g.in_width = g.kernel + *rc::gen::inRange(0, 8);
    g.groups = *rc::gen::element(1, 1, 2, 5);
    g.in_channels = g.groups * *rc::gen::inRange(1, 20 / static_cast<int>(g.groups));
    g.out_channels = g.groups * *rc::gen::inRange(1, 36 / static_cast<int>(g.groups));
    return g;
}

/// Whether every item's results in smaller batches are those it has in a batch of `most`, bit for bit.
bool independent_of_company(Product& product, std::int64_t most, std::int64_t in, std::int64_t out,
                            std::int64_t weights) {
    const Tensor w = random_tensor({weights}, 8);
    const Tensor x = random_tensor({most, in}, 9);
    Tensor dy = random_tensor({most, out}, 10);
    make_sparse(dy.values().subspan(0, static_cast<std::size_t>(most / 2 * out)));
    Tensor y({most, out});
    Tensor dx({most, in});
    product.pack_forward(w.values());
    product.pack_backward(w.values());
    product.forward(most, x.values(), y.values());
    product.backward_input(most, dy.values(), dx.values());
    Tensor part;
    for (std::int64_t items = 1; items <= most; ++items)
        for (std::int64_t first = 0; first + items <= most; first += items) {
            const auto items_of = [&](auto& tensor, std::int64_t values) {
                return tensor.values().subspan(static_cast<std::size_t>(first * values),
                                               static_cast<std::size_t>(items * values));
            };
            part.resize({items, out});
            product.forward(items, items_of(x, in), part.values());
            if (!std::ranges::equal(part.values(), items_of(y, out)))
                return false;
            part.resize({items, in});
            product.backward_input(items, items_of(dy, out), part.values());
            if (!std::ranges::equal(part.values(), items_of(dx, in)))
                return false;
        }
    return true;
}

TEST_SUITE("core/compute/backend") {
    TEST_CASE("auto picks one of the backends by name, and its newest instruction set") {
        const auto backend = make_backend({.backend = "auto"});
        const auto named = make_backend({.backend = std::string(backend->name())});
        CHECK(named->name() == backend->name());
        CHECK(named->instruction_set() == backend->instruction_set());
        CHECK(make_backend({.backend = "eigen"})->instruction_set() == eigen_instruction_sets().back());
    }

    TEST_CASE("an unknown backend is refused with the names that exist") {
        CHECK_THROWS_WITH_AS(make_backend({.backend = "cuda"}),
                             R"(compute.backend: expected one of "auto", "onednn", "eigen", found "cuda")", InputError);
        CHECK_THROWS_AS(make_eigen_backend("neon512"), PreconditionError);
    }

    TEST_CASE("on every backend, the convolutions of real networks agree with their definition") {
        for (const auto& backend : all_backends())
            for (const ConvGeometry& g : kGeometries) {
                CAPTURE(label(*backend));
                CAPTURE(label(g));
                CHECK(convolution_error(*backend, g, 3) < kTolerance);
                CHECK(convolution_error(*backend, g, 2, true) < kTolerance);
            }
    }

    TEST_CASE("where the processor has units for bfloat16 values, convolutions of them agree with their definition") {
        int convolutions = 0;
        for (const auto& backend : all_backends())
            for (const ConvGeometry& g : kGeometries)
                if (const auto product = backend->bfloat_convolution(g, 3)) {
                    CAPTURE(label(*backend));
                    CAPTURE(label(g));
                    CHECK(product_error(*product, g, 3, false, true) < kTolerance);
                    CHECK(product_error(*product, g, 2, true, true) < kTolerance);
                    ++convolutions;
                }
        if (convolutions == 0)
            MESSAGE("no bfloat16 units here: nothing to compare");
    }

    TEST_CASE("on every backend, convolutions of any geometry agree with their definition") {
        for (const auto& backend : all_backends()) {
            CAPTURE(label(*backend));
            CHECK(rc::check([&] {
                const ConvGeometry g = arbitrary_geometry();
                return convolution_error(*backend, g, *rc::gen::inRange(1, 4), *rc::gen::arbitrary<bool>()) <
                       kTolerance;
            }));
        }
    }

    TEST_CASE("on every backend, linear products of any size agree with their definition") {
        for (const auto& backend : all_backends()) {
            CAPTURE(label(*backend));
            CHECK(rc::check([&] {
                return linear_error(*backend, *rc::gen::inRange(1, 70), *rc::gen::inRange(1, 70),
                                    *rc::gen::inRange(1, 40)) < kTolerance;
            }));
            for (const auto& [in, out] : {std::pair{1568, 128}, {128, 1570}, {5000, 33}})  // of several panels
                CHECK(linear_error(*backend, in, out, 32) < 10 * kTolerance);
        }
    }

    TEST_CASE("the bits of an item do not depend on the items beside it") {
        for (const auto& backend : all_backends()) {
            CAPTURE(label(*backend));
            for (const ConvGeometry& g : kGeometries) {
                CAPTURE(label(g));
                CHECK(independent_of_company(*backend->convolution(g, 4), 4, g.in_height * g.in_width * g.in_channels,
                                             g.out_height() * g.out_width() * g.out_channels,
                                             g.fan_in() * g.out_channels));
            }
            for (const auto& [in, out] : {std::pair{784, 130}, {128, 10}, {70, 1}, {1, 33}, {4, 3}, {1, 1}}) {
                CAPTURE(in);
                CAPTURE(out);
                CHECK(independent_of_company(*backend->linear(in, out, 32), 32, in, out, in * out));
            }
        }
    }

    TEST_CASE("the same operands give the same gradient, bit for bit, whichever object adds it up") {
        for (const auto& backend : all_backends())
            for (const ConvGeometry& g : kGeometries) {
                CAPTURE(label(*backend));
                CAPTURE(label(g));
                const Tensor x = random_tensor({5, g.in_height * g.in_width * g.in_channels}, 11);
                const Tensor dy = random_tensor({5, g.out_height() * g.out_width() * g.out_channels}, 12);
                Tensor one({g.fan_in(), g.out_channels});
                Tensor other({g.fan_in(), g.out_channels});
                const auto product = backend->convolution(g, 8);
                product->add_weight_gradient(5, x.values(), dy.values(), one.values());
                backend->convolution(g, 5)->add_weight_gradient(5, x.values(), dy.values(), other.values());
                CHECK(std::ranges::equal(one.values(), other.values()));
                std::ranges::fill(other.values(), 0.0F);
                product->add_weight_gradient(5, x.values(), dy.values(), other.values());
                CHECK(std::ranges::equal(one.values(), other.values()));
            }
    }

    TEST_CASE("weights hold until others are packed, for each direction apart") {
        for (const auto& backend : all_backends()) {
            CAPTURE(label(*backend));
            const auto product = backend->linear(2, 1, 1);
            const std::vector<float> w{1, 2}, other{5, 6}, x{3, 4};
            std::vector<float> y(1), dx(2);
            product->pack_forward(w);
            product->pack_backward(other);
            for (int time = 0; time < 2; ++time) {
                product->forward(1, x, y);
                product->backward_input(1, y, dx);
                CHECK(y == std::vector<float>{11});
                CHECK(dx == std::vector<float>{55, 66});
            }
            product->pack_forward(other);
            product->forward(1, x, y);
            product->backward_input(1, y, dx);
            CHECK(y == std::vector<float>{39});
            CHECK(dx == std::vector<float>{195, 234});
        }
    }

    TEST_CASE("no items are no work") {
        for (const auto& backend : all_backends()) {
            const auto product = backend->convolution(kGeometries[2], 2);
            std::vector<float> w(16 * 32 * 9), dw(w.size(), 1.0F);
            product->pack_forward(w);
            product->pack_backward(w);
            product->forward(0, {}, {});
            product->backward_input(0, {}, {});
            product->add_weight_gradient(0, {}, {}, dw);
            CHECK(dw == std::vector<float>(dw.size(), 1.0F));
        }
    }

    TEST_CASE("operands of the wrong size, and products without weights, are refused") {
        for (const auto& backend : all_backends()) {
            const auto product = backend->linear(3, 2, 4);
            std::vector<float> x(6), w(6), y(4), large_x(15), large_y(10);
            CHECK_THROWS_AS(product->forward(2, x, y), PreconditionError);
            CHECK_THROWS_AS(product->backward_input(2, y, x), PreconditionError);
            product->pack_forward(w);
            product->forward(2, x, y);
            CHECK_THROWS_AS(product->backward_input(2, y, x), PreconditionError);
            CHECK_THROWS_AS(product->forward(1, x, y), PreconditionError);
            CHECK_THROWS_AS(product->forward(5, large_x, large_y), PreconditionError);
            CHECK_THROWS_AS(product->pack_forward(std::span(w).first(5)), PreconditionError);
            CHECK_THROWS_AS(product->add_weight_gradient(2, x, y, std::span(w).first(5)), PreconditionError);
        }
    }

    TEST_CASE("geometries that are no convolution are refused") {
        for (const auto& backend : all_backends()) {
            CHECK_THROWS_AS(backend->convolution(geometry(4, 4, 4, 6, 3, 1, 1, 4), 1), PreconditionError);
            CHECK_THROWS_AS(backend->convolution(geometry(4, 4, 4, 4, 3, 1, 1, 0), 1), PreconditionError);
            CHECK_THROWS_AS(backend->convolution(geometry(2, 4, 4, 4, 3, 1, 0), 1), PreconditionError);
            CHECK_THROWS_AS(backend->convolution(geometry(4, 4, 4, 4, 3, 0, 1), 1), PreconditionError);
            CHECK_THROWS_AS(backend->convolution(geometry(4, 4, 4, 4, 3, 1, -1), 1), PreconditionError);
            CHECK_THROWS_AS(backend->convolution(geometry(4, 4, 4, 4, 3, 1, 1), 0), PreconditionError);
            CHECK_THROWS_AS(backend->linear(0, 1, 1), PreconditionError);
        }
    }
}

}  // namespace
}  // namespace dither
