#include "tests/unit/transport/codecs.hpp"

using namespace dither;
using namespace dither::test;

TEST_SUITE("transport/codec") {
    TEST_CASE("an unknown kind is an input error") {
        const Schema schema = schema_of({1});
        CHECK_THROWS_AS(make_codec({.kind = "zip"}, schema), InputError);
    }

    TEST_CASE("codecs say whether steps matter") {
        const Schema schema = schema_of({1});
        CHECK(make_codec({.kind = "raw"}, schema)->name() == "raw");
        CHECK_FALSE(make_codec({.kind = "raw"}, schema)->needs_steps());
        CHECK(make_codec({.kind = "grid"}, schema)->name() == "grid");
        CHECK(make_codec({.kind = "grid"}, schema)->needs_steps());
    }
}
