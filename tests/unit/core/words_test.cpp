#include "core/words.hpp"

#include <vector>

#include <doctest/doctest.h>

using namespace dither;

TEST_SUITE("core/words") {
    TEST_CASE("the distance of two words is the fewest edits between them") {
        CHECK(edit_distance("", "") == 0);
        CHECK(edit_distance("", "abc") == 3);
        CHECK(edit_distance("kitten", "sitting") == 3);
        CHECK(edit_distance("cohort", "cohrt") == 1);
    }

    TEST_CASE("the nearest word is the first of those with the fewest edits, and none of none") {
        const std::vector<std::string> known{"bits", "seeds", "seed"};
        CHECK(nearest("sed", known) == "seed");
        CHECK(nearest("seeeds", known) == "seeds");
        CHECK(nearest("x", std::vector<std::string>{"ab", "cd"}) == "ab");
        CHECK(nearest("x", {}).empty());
    }

    TEST_CASE("quoted text is a TOML string on one line") {
        CHECK(toml_text("a \"b\" \\ c") == R"("a \"b\" \\ c")");
        CHECK(toml_text("line\nnext\x7f") == R"("line\u000anext\u007f")");
    }
}
