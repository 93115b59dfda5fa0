#include "core/version.hpp"

#include <doctest/doctest.h>

#include <algorithm>

TEST_SUITE("core/version") {
    TEST_CASE("the version is three numbers") {
        CHECK(std::ranges::count(dither::version(), '.') == 2);
        CHECK(dither::version().find_first_not_of("0123456789.") == std::string_view::npos);
    }

    TEST_CASE("the processor always has a name") {
        CHECK_FALSE(dither::cpu_name().empty());
    }
}
