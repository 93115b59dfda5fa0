#include "transport/hadamard.hpp"

#include "core/error.hpp"
#include "tests/unit/transport/codecs.hpp"

#include <bit>
#include <numeric>

using namespace dither;
using namespace dither::test;

namespace {

std::vector<double> by_matrix(std::span<const float> v) {
    std::vector<double> sums(v.size());
    for (std::size_t i = 0; i < v.size(); ++i)
        for (std::size_t j = 0; j < v.size(); ++j)
            sums[i] += std::popcount(i & j) % 2 != 0 ? -double{v[j]} : double{v[j]};
    return sums;
}

}  // namespace

TEST_SUITE("transport/hadamard") {
    TEST_CASE("the transform is the product with the Hadamard matrix") {
        for (std::size_t n = 1; n <= 2048; n *= 2) {
            CAPTURE(n);
            auto v = normal_values(n, 1);
            const auto expected = by_matrix(v);
            hadamard_transform(v);
            for (std::size_t i = 0; i < n; ++i)
                CHECK(std::abs(v[i] - expected[i]) <= 1e-6 * static_cast<double>(n));
        }
    }

    TEST_CASE("on integers it is exact, and twice is n times, beyond the size of a cache") {
        for (const std::size_t n : {std::size_t{4096}, std::size_t{8192}, std::size_t{1} << 15, std::size_t{1} << 16}) {
            CAPTURE(n);
            std::vector<float> v(n);
            Stream stream(key_of(2));
            for (float& value : v)
                value = static_cast<float>(stream.below(7)) - 3;
            auto twice = v;
            hadamard_transform(twice);
            CHECK(twice[0] == std::accumulate(v.begin(), v.end(), 0.0F));
            hadamard_transform(twice);
            for (float& value : v)
                value *= static_cast<float>(n);
            CHECK(twice == v);
        }
    }

    TEST_CASE("a size that is not a power of two is refused") {
        std::vector<float> v(12);
        CHECK_THROWS_AS(hadamard_transform(v), PreconditionError);
        CHECK_THROWS_AS(hadamard_transform({}), PreconditionError);
    }
}
