#include "node/daemon/state_folder.hpp"

#include <doctest/doctest.h>

#include "core/error.hpp"
#include "tests/unit/temporary_folder.hpp"

using namespace dither;
using test::read_text;
using test::TemporaryFolder;
using test::write_text;

TEST_SUITE("node/daemon/state_folder") {
    TEST_CASE("a node that nobody named gets an id once, and keeps it") {
        const TemporaryFolder folder;
        const auto state = folder.path() / "a" / "state";
        CHECK(identify(StateFolder(state), "", "", 0x1234) == "node-0000000000001234");
        CHECK(identify(StateFolder(state), "", "", 0x5678) == "node-0000000000001234");
        CHECK(read_text(state / "id") == "node-0000000000001234\n");
    }

    TEST_CASE("a node is who the command line or its certificate says, from then on") {
        const TemporaryFolder folder;
        const StateFolder named(folder.path() / "named");
        CHECK(identify(named, "kitchen", "", 1) == "kitchen");
        CHECK(identify(named, "", "", 2) == "kitchen");
        const StateFolder certified(folder.path() / "certified");
        CHECK(identify(certified, "", "cellar", 1) == "cellar");
        CHECK(identify(certified, "cellar", "cellar", 1) == "cellar");
    }

    TEST_CASE("a node that is two nodes at once does not start") {
        const TemporaryFolder folder;
        const StateFolder state(folder.path());
        CHECK_THROWS_WITH_AS(identify(state, "kitchen", "cellar", 1),
                             "the certificate: this node is 'cellar' there, and 'kitchen' elsewhere", InputError);
        CHECK_FALSE(state.id());
        CHECK(identify(state, "kitchen", "", 1) == "kitchen");
        CHECK_THROWS_AS(identify(state, "attic", "", 1), InputError);
        CHECK_THROWS_AS(identify(state, "", "attic", 1), InputError);
    }

    TEST_CASE("what is no id is refused, whoever says it") {
        const TemporaryFolder folder;
        const StateFolder state(folder.path());
        CHECK_THROWS_AS(identify(state, "Kitchen", "", 1), InputError);
        CHECK_THROWS_AS(identify(state, std::string(65, 'a'), "", 1), InputError);
        CHECK_THROWS_AS(identify(state, "", "*.example.org", 1), InputError);
        write_text(folder.path() / "id", "");
        CHECK_THROWS_WITH_AS(state.id(), doctest::Contains("no node id"), InputError);
    }

    TEST_CASE("a folder is one node's at a time") {
        const TemporaryFolder folder;
        {
            const StateFolder state(folder.path());
            CHECK_THROWS_WITH_AS(StateFolder(folder.path()), doctest::Contains("in use by another node"), InputError);
        }
        CHECK_NOTHROW(StateFolder(folder.path()));
    }

    TEST_CASE("a folder that cannot be made is bad input") {
        const TemporaryFolder folder;
        write_text(folder.path() / "file", "");
        CHECK_THROWS_AS(StateFolder(folder.path() / "file" / "state"), InputError);
    }
}
