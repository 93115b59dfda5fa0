#include "core/choice.hpp"

#include "core/error.hpp"

#include <doctest/doctest.h>

#include <array>

using dither::ChoiceRow;

namespace {

constexpr std::array kRows{ChoiceRow<int>{"one", "the first", 1}, ChoiceRow<int>{"two", "the second", 2}};

}  // namespace

TEST_SUITE("core/choice") {
    TEST_CASE("a name chooses the value of its row") {
        CHECK(dither::choose(kRows, "key", "two") == 2);
    }

    TEST_CASE("an unknown name is an error that names the key and lists the choices") {
        CHECK_THROWS_WITH_AS(dither::choose(kRows, "section.key", "three"),
                             "section.key: expected one of \"one\", \"two\", found \"three\"", dither::InputError);
    }

    TEST_CASE("the choices are the rows' names and meanings, in their order") {
        const auto choices = dither::choices_of(kRows);
        REQUIRE(choices.size() == 2);
        CHECK(choices[1].name == "two");
        CHECK(choices[1].meaning == "the second");
    }
}
