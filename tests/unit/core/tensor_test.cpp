#include "core/tensor.hpp"

#include "core/error.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>

using dither::PreconditionError;
using dither::Shape;
using dither::Tensor;

TEST_SUITE("core/tensor") {
    TEST_CASE("a shape knows its rank, its extents and their product") {
        const Shape shape{32, 28, 28, 3};
        CHECK(shape.rank() == 4);
        CHECK(shape[0] == 32);
        CHECK(shape[3] == 3);
        CHECK(shape.count() == 32 * 28 * 28 * 3);
        CHECK(shape.str() == "[32, 28, 28, 3]");
        CHECK(Shape{}.count() == 1);
        CHECK(Shape{}.str() == "[]");
    }

    TEST_CASE("another batch size changes the outermost extent alone") {
        CHECK(Shape{1, 28, 28, 1}.with_batch(7) == Shape{7, 28, 28, 1});
        CHECK_THROWS_AS(Shape{}.with_batch(1), PreconditionError);
        CHECK_THROWS_AS(Shape({1, 2}).with_batch(-1), PreconditionError);
    }

    TEST_CASE("shapes of different rank differ even where their extents agree") {
        CHECK(Shape{2, 3} != Shape{2, 3, 1});
        CHECK(Shape{2, 3} != Shape{3, 2});
    }

    TEST_CASE("five extents or a negative one are refused") {
        CHECK_THROWS_AS((Shape{1, 2, 3, 4, 5}), PreconditionError);
        CHECK_THROWS_AS((Shape{2, -1}), PreconditionError);
    }

    TEST_CASE("a new tensor is zero and aligned to a cache line") {
        const Tensor tensor(Shape{3, 5});
        CHECK(tensor.count() == 15);
        CHECK(std::all_of(tensor.values().begin(), tensor.values().end(), [](float x) { return x == 0; }));
        CHECK(reinterpret_cast<std::uintptr_t>(tensor.data()) % 64 == 0);
    }

    TEST_CASE("a tensor that shrinks and grows back keeps its memory") {
        Tensor tensor(Shape{8, 4});
        const float* const memory = tensor.data();
        tensor.resize({2, 4});
        CHECK(tensor.values().size() == 8);
        tensor.resize({4, 8});
        CHECK(tensor.data() == memory);
        CHECK(tensor.shape() == Shape{4, 8});
    }

    TEST_CASE("copies own their values") {
        Tensor tensor(Shape{2});
        Tensor copy = tensor;
        copy.data()[0] = 1;
        CHECK(tensor.data()[0] == 0);
    }

    TEST_CASE("an item is its part of the batch") {
        Tensor tensor(Shape{3, 2, 2});
        tensor.item(1)[0] = 5;
        CHECK(tensor.values()[4] == 5);
        CHECK(tensor.item(2).size() == 4);
        CHECK_THROWS_AS(tensor.item(3), PreconditionError);
        CHECK_THROWS_AS(tensor.item(-1), PreconditionError);
        CHECK_THROWS_AS(Tensor().item(0), PreconditionError);
    }
}
