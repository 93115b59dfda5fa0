#include "transport/rotation.hpp"

#include "core/sha256.hpp"
#include "core/vector_math.hpp"
#include "tests/unit/transport/codecs.hpp"

#include <rapidcheck.h>

using namespace dither;
using namespace dither::test;

namespace {

std::vector<float> rotated(std::span<const float> x, std::uint32_t seed) {
    std::vector<float> z(x.begin(), x.end());
    std::vector<float> scratch(x.size());
    Rotation(x.size(), key_of(seed)).apply(z, scratch);
    return z;
}

}  // namespace

TEST_SUITE("transport/rotation") {
    TEST_CASE("a rotation of any size keeps the norm, and its inverse takes it back") {
        rc::check([] {
            const auto count = *rc::gen::inRange<std::size_t>(1, 5001);
            const auto seed = *rc::gen::arbitrary<std::uint32_t>();
            const auto x = normal_values(count, seed);
            auto z = rotated(x, seed);
            RC_ASSERT(std::abs(squared_norm(z) / squared_norm(x) - 1) < 1e-5);
            std::vector<float> scratch(count);
            Rotation(count, key_of(seed)).invert(z, scratch);
            RC_ASSERT(distortion(x, z) < 1e-11);
        });
    }

    TEST_CASE("wherever a lonely spike was, every coordinate gets the same share of it on average") {
        constexpr std::uint32_t kDraws = 2000;
        for (const std::size_t count : {33U, 48U, 63U, 64U}) {
            for (const std::size_t spike : {std::size_t{0}, count / 2, count - 1}) {
                std::vector<float> x(count);
                x[spike] = 1;
                std::vector<double> squares(count);
                for (std::uint32_t seed = 0; seed < kDraws; ++seed) {
                    const auto z = rotated(x, seed);
                    for (std::size_t i = 0; i < count; ++i)
                        squares[i] += static_cast<double>(z[i]) * static_cast<double>(z[i]);
                }
                CAPTURE(count);
                CAPTURE(spike);
                for (const double square : squares)  // of a normal number the square has variance 2
                    CHECK(std::abs(square * static_cast<double>(count) / kDraws - 1) <
                          6 * std::sqrt(2.0 / kDraws) + 0.1);
            }
        }
    }

    TEST_CASE("what comes out looks Gaussian whatever went in") {
        std::vector<float> x(40'000);
        x[7] = 3;
        x[39'999] = -1;
        double fourth = 0;
        for (const float z : rotated(x, 1))
            fourth += std::pow(static_cast<double>(z), 4);
        const double square = squared_norm(std::span<const float>(x)) / 40'000;
        CHECK(fourth / 40'000 / (square * square) == doctest::Approx(3).epsilon(0.1));
    }

    TEST_CASE("another key is another rotation, and one key gives the same bits everywhere") {
        const auto x = normal_values(1000, 3);
        CHECK(rotated(x, 4) != rotated(x, 5));
        CHECK(to_hex(sha256(rotated(x, 4))) == "73a96a74313f914995541db462fcdd930534344726c23ae86f71af8158790bf6");
        CHECK(to_hex(sha256(rotated(normal_values(8192, 3), 4))) ==
              "16722e5c9dcad88b6b1d7c528a4ca1c2a9e71fb247d4ed1975615eb9bcecbb00");
    }

    TEST_CASE("spans of other sizes are refused") {
        std::vector<float> z(12);
        std::vector<float> scratch(12);
        const Rotation rotation(12, key_of(1));
        CHECK_THROWS_AS(rotation.apply(std::span(z).first(11), scratch), PreconditionError);
        CHECK_THROWS_AS(rotation.invert(z, std::span(scratch).first(11)), PreconditionError);
        CHECK_THROWS_AS(Rotation(0, key_of(1)), PreconditionError);
    }
}
