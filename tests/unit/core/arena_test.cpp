#include "core/arena.hpp"

#include "core/rng.hpp"
#include "core/tensor.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <vector>

namespace dither {
namespace {

bool overlap(const Buffer<std::uint8_t>& a, const Buffer<std::uint8_t>& b) {
    return a.data() < b.data() + b.size() && b.data() < a.data() + a.size();
}

/// A step: takes and gives back blocks of many sizes in an order of its own.
void step(Arena& arena) {
    Stream random({.seed = 5});
    std::vector<Buffer<std::uint8_t>> live;
    for (int i = 0; i < 300; ++i)
        if (live.size() < 20 && random.below(3) > 0)
            live.emplace_back(1 + random.below(200'000), &arena);
        else if (!live.empty())
            live.erase(live.begin() + random.below(static_cast<std::uint32_t>(live.size())));
}

TEST_SUITE("core/arena") {
    TEST_CASE("blocks are aligned and never overlap, in whatever order they come and go") {
        Arena arena;
        Stream random({.seed = 9});
        std::vector<Buffer<std::uint8_t>> live;
        for (int i = 0; i < 400; ++i) {
            if (random.below(5) < 3 || live.empty()) {
                live.emplace_back(random.below(5'000), &arena);
                CHECK(reinterpret_cast<std::uintptr_t>(live.back().data()) % 64 == 0);
                for (std::size_t k = 0; k + 1 < live.size(); ++k)
                    CHECK_FALSE(overlap(live[k], live.back()));
            } else {
                live.erase(live.begin() + random.below(static_cast<std::uint32_t>(live.size())));
            }
        }
        live.clear();
        CHECK(arena.in_use() == 0);
    }

    TEST_CASE("a step like the one before asks the system for nothing") {
        Arena arena;
        step(arena);
        const std::size_t capacity = arena.capacity();
        arena.reset_peak();
        step(arena);
        step(arena);
        CHECK(arena.capacity() == capacity);
        CHECK(arena.peak() <= capacity);
        CHECK(arena.in_use() == 0);
    }

    TEST_CASE("the peak is what was in use at once") {
        Arena arena;
        {
            const Buffer<float> a(1000, &arena);
            { const Buffer<float> b(1000, &arena); }
            const Buffer<float> c(500, &arena);
        }
        CHECK(arena.peak() >= 8000);
        CHECK(arena.peak() < 8400);
        arena.reset_peak();
        CHECK(arena.peak() == 0);
    }

    TEST_CASE("values live until the last handle to them goes") {
        Arena arena;
        Buffer<int> first(3, &arena);
        first.data()[2] = 7;
        CHECK(first.unique());
        Buffer<int> second = first.share();
        CHECK_FALSE(first.unique());
        first.release();
        CHECK(second.unique());
        CHECK(second.values()[2] == 7);
        CHECK(arena.in_use() > 0);
        second = Buffer<int>();
        CHECK(arena.in_use() == 0);
    }

    TEST_CASE("a tensor in an arena is copied into memory of its own") {
        Arena arena;
        Tensor tensor(Shape{2, 3}, &arena);
        std::ranges::fill(tensor.values(), 1.0F);
        const std::size_t in_use = arena.in_use();
        Tensor copy = tensor;
        CHECK(arena.in_use() == in_use);
        copy.data()[0] = 2;
        CHECK(tensor.data()[0] == 1);
        const Tensor moved = std::move(tensor);
        CHECK(tensor.empty());
        CHECK(moved.shape() == Shape({2, 3}));
    }
}

}  // namespace
}  // namespace dither
