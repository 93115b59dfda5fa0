#include "core/compute/backend.hpp"

#include "core/compute/eigen_backend.hpp"
#include "core/config.hpp"
#include "core/error.hpp"
#include "tests/unit/gradient_check.hpp"

#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <functional>

namespace dither {
namespace {

using testing::random_tensor;

/// Calls visit(x index, w index, y index) for every multiply-accumulate of the convolution, by its definition.
void for_each_mac(const ConvGeometry& g, std::int64_t batch,
                  const std::function<void(std::int64_t, std::int64_t, std::int64_t)>& visit) {
    for (std::int64_t n = 0; n < batch; ++n)
        for (std::int64_t oy = 0; oy < g.out_height(); ++oy)
            for (std::int64_t ox = 0; ox < g.out_width(); ++ox)
                for (std::int64_t ky = 0; ky < g.kernel; ++ky)
                    for (std::int64_t kx = 0; kx < g.kernel; ++kx) {
                        const std::int64_t iy = oy * g.stride + ky - g.padding;
                        const std::int64_t ix = ox * g.stride + kx - g.padding;
                        if (iy < 0 || iy >= g.in_height || ix < 0 || ix >= g.in_width)
                            continue;
                        for (std::int64_t c = 0; c < g.in_channels; ++c)
                            for (std::int64_t o = 0; o < g.out_channels; ++o)
                                visit(((n * g.in_height + iy) * g.in_width + ix) * g.in_channels + c,
                                      ((ky * g.kernel + kx) * g.in_channels + c) * g.out_channels + o,
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

/// The worst of the three operations against the definition, accumulated in double.
double convolution_error(const Backend& backend, const ConvGeometry& g, std::int64_t batch, bool sparse = false) {
    const Tensor x = random_tensor({batch, g.in_height, g.in_width, g.in_channels}, 1);
    const Tensor w = random_tensor({g.kernel, g.kernel, g.in_channels, g.out_channels}, 2);
    const Tensor bias = random_tensor({g.out_channels}, 3);
    Tensor dy = random_tensor({batch, g.out_height(), g.out_width(), g.out_channels}, 4);
    if (sparse)
        for (std::int64_t i = 0; i < dy.count(); ++i)
            dy.data()[i] = i % 7 == 0 ? dy.data()[i] : 0;

    std::vector<double> y(dy.values().size());
    std::vector<double> dx(x.values().size());
    std::vector<double> dw(w.values().size());
    for (std::size_t i = 0; i < y.size(); ++i)
        y[i] = bias.data()[i % static_cast<std::size_t>(g.out_channels)];
    for_each_mac(g, batch, [&](std::int64_t xi, std::int64_t wi, std::int64_t yi) {
        y[yi] += static_cast<double>(x.data()[xi]) * w.data()[wi];
        dx[xi] += static_cast<double>(dy.data()[yi]) * w.data()[wi];
        dw[wi] += static_cast<double>(x.data()[xi]) * dy.data()[yi];
    });

    const auto product = backend.convolution(g, batch);
    Tensor result_y(dy.shape());
    Tensor result_dx(x.shape());
    Tensor result_dw(w.shape());
    product->forward(batch, x.values(), w.values(), bias.values(), result_y.values());
    product->backward_input(batch, dy.values(), w.values(), result_dx.values());
    product->backward_weights(batch, x.values(), dy.values(), result_dw.values());
    return std::max({worst_difference(result_y.values(), y), worst_difference(result_dx.values(), dx),
                     worst_difference(result_dw.values(), dw)});
}

/// A linear product is a convolution of 1x1 images: the same definition serves as its reference.
double linear_error(const Backend& backend, std::int64_t in, std::int64_t out, std::int64_t batch) {
    const ConvGeometry g{.in_height = 1, .in_width = 1, .in_channels = in, .out_channels = out, .kernel = 1};
    const Tensor x = random_tensor({batch, in}, 5);
    const Tensor w = random_tensor({in, out}, 6);
    const Tensor dy = random_tensor({batch, out}, 7);
    std::vector<double> y(dy.values().size());
    std::vector<double> dx(x.values().size());
    std::vector<double> dw(w.values().size());
    for_each_mac(g, batch, [&](std::int64_t xi, std::int64_t wi, std::int64_t yi) {
        y[yi] += static_cast<double>(x.data()[xi]) * w.data()[wi];
        dx[xi] += static_cast<double>(dy.data()[yi]) * w.data()[wi];
        dw[wi] += static_cast<double>(x.data()[xi]) * dy.data()[yi];
    });
    const auto product = backend.linear(in, out, batch);
    Tensor result_y(dy.shape());
    Tensor result_dx(x.shape());
    Tensor result_dw(w.shape());
    product->forward(batch, x.values(), w.values(), {}, result_y.values());
    product->backward_input(batch, dy.values(), w.values(), result_dx.values());
    product->backward_weights(batch, x.values(), dy.values(), result_dw.values());
    return std::max({worst_difference(result_y.values(), y), worst_difference(result_dx.values(), dx),
                     worst_difference(result_dw.values(), dw)});
}

ConvGeometry arbitrary_geometry() {
    ConvGeometry g;
    g.kernel = *rc::gen::inRange(1, 5);
    g.stride = *rc::gen::inRange(1, 4);
    g.padding = *rc::gen::inRange(0, 3);
    g.in_height = g.kernel + *rc::gen::inRange(0, 8);
    g.in_width = g.kernel + *rc::gen::inRange(0, 8);
    g.in_channels = *rc::gen::inRange(1, 20);
    g.out_channels = *rc::gen::inRange(1, 36);
    return g;
}

TEST_SUITE("core/compute/backend") {
    TEST_CASE("auto picks the fastest instruction set that this processor has") {
        const auto backend = make_backend({.backend = "auto"});
        CHECK(backend->name() == "eigen");
        CHECK(backend->instruction_set() == eigen_instruction_sets().back());
        CHECK(make_backend({.backend = "eigen"})->instruction_set() == backend->instruction_set());
    }

    TEST_CASE("an unknown backend is refused with the names that exist") {
        CHECK_THROWS_WITH_AS(make_backend({.backend = "cuda"}),
                             R"(compute.backend: expected one of "auto", "eigen", found "cuda")", InputError);
        CHECK_THROWS_AS(make_eigen_backend("neon512"), PreconditionError);
    }

    TEST_CASE("on every instruction set, convolutions of any geometry agree with their definition") {
        for (const std::string_view set : eigen_instruction_sets()) {
            CAPTURE(set);
            const auto backend = make_eigen_backend(set);
            CHECK(backend->instruction_set() == set);
            CHECK(rc::check([&] {
                const ConvGeometry g = arbitrary_geometry();
                return convolution_error(*backend, g, *rc::gen::inRange(1, 4), *rc::gen::arbitrary<bool>()) <
                       kTolerance;
            }));
        }
    }

    TEST_CASE("on every instruction set, linear products of any size agree with their definition") {
        for (const std::string_view set : eigen_instruction_sets()) {
            CAPTURE(set);
            const auto backend = make_eigen_backend(set);
            CHECK(rc::check([&] {
                return linear_error(*backend, *rc::gen::inRange(1, 70), *rc::gen::inRange(1, 70),
                                    *rc::gen::inRange(1, 40)) < kTolerance;
            }));
            CHECK(linear_error(*backend, 1568, 128, 32) < 10 * kTolerance);
        }
    }

    TEST_CASE("a batch smaller than the planned one gives the same bits as its samples in a full batch") {
        const auto backend = make_backend({});
        const ConvGeometry g{.in_height = 6, .in_width = 6, .in_channels = 3, .out_channels = 5, .padding = 1};
        const Tensor x = random_tensor({4, 6, 6, 3}, 8);
        const Tensor w = random_tensor({3, 3, 3, 5}, 9);
        Tensor whole({4, 6, 6, 5});
        Tensor part({1, 6, 6, 5});
        const auto product = backend->convolution(g, 4);
        product->forward(4, x.values(), w.values(), {}, whole.values());
        product->forward(1, x.item(0), w.values(), {}, part.values());
        CHECK(std::ranges::equal(part.values(), whole.item(0)));
    }

    TEST_CASE("operands of the wrong size are refused") {
        const auto product = make_backend({})->linear(3, 2, 4);
        std::vector<float> x(6), w(6), bias(2), y(4);
        product->forward(2, x, w, bias, y);
        CHECK_THROWS_AS(product->forward(1, x, w, bias, y), PreconditionError);
        CHECK_THROWS_AS(product->forward(2, x, std::span(w).first(5), bias, y), PreconditionError);
        CHECK_THROWS_AS(product->forward(2, x, w, std::span(bias).first(1), y), PreconditionError);
        std::vector<float> large_x(15), large_y(10);
        CHECK_THROWS_AS(product->forward(5, large_x, w, bias, large_y), PreconditionError);
    }
}

}  // namespace
}  // namespace dither
