#include "node/daemon/uplink_budget.hpp"

#include <doctest/doctest.h>

#include "core/error.hpp"
#include "tests/unit/temporary_folder.hpp"

using namespace dither;
using test::TemporaryFolder;
using test::write_text;

namespace {

struct Metered {
    TemporaryFolder folder;
    UplinkBudget::Day day = 20'000;
    std::uint64_t written = 0;  ///< by sockets
    UplinkBudget budget = restarted();

    UplinkBudget restarted() {
        return {folder.path() / "uplink", 1000, [this] { return day; }, [this] { return written; }};
    }
};

}  // namespace

TEST_SUITE("node/daemon/uplink_budget") {
    TEST_CASE("an update is sent only if it fits into what is left of the day") {
        Metered node;
        CHECK(node.budget.take_update(600));
        CHECK(node.budget.left() == 400);
        CHECK_FALSE(node.budget.take_update(401));
        CHECK(node.budget.take_update(400));
        CHECK(node.budget.left() == 0);
    }

    TEST_CASE("what must be said is said beyond the budget, and counts") {
        Metered node;
        node.budget.take(1200);
        CHECK(node.budget.left() == 0);
        CHECK_FALSE(node.budget.take_update(1));
    }

    TEST_CASE("a new day begins with the whole budget") {
        Metered node;
        CHECK(node.budget.take_update(1000));
        ++node.day;
        CHECK(node.budget.left() == 1000);
    }

    TEST_CASE("a clock that goes back gives nothing back, and coming forth again neither") {
        Metered node;
        CHECK(node.budget.take_update(700));
        --node.day;
        CHECK(node.budget.left() == 300);
        CHECK(node.restarted().left() == 300);
        ++node.day;
        CHECK(node.budget.left() == 300);
        ++node.day;
        CHECK(node.budget.left() == 1000);
    }

    TEST_CASE("a task is declined beforehand if the last update would not fit") {
        Metered node;
        CHECK(node.budget.may_fit());  // nothing is known yet
        CHECK(node.budget.take_update(500));
        CHECK(node.budget.may_fit());
        CHECK(node.budget.take_update(400));
        CHECK_FALSE(node.budget.may_fit());
    }

    TEST_CASE("updates beyond a whole day's budget are tried once a day: they may have become smaller") {
        Metered node;
        CHECK_FALSE(node.budget.take_update(5000));
        CHECK_FALSE(node.budget.may_fit());
        ++node.day;
        CHECK(node.budget.may_fit());
        CHECK_FALSE(node.budget.may_fit());
    }

    TEST_CASE("a restart takes nothing back") {
        Metered node;
        CHECK(node.budget.take_update(700));
        UplinkBudget after = node.restarted();
        CHECK(after.left() == 300);
        CHECK_FALSE(after.may_fit());
        ++node.day;
        CHECK(after.may_fit());
    }

    TEST_CASE("what sockets take beyond what was paid for is settled once, and is no update") {
        Metered node;
        node.budget.take(100);
        node.written = 150;
        node.budget.settle();
        node.budget.settle();
        CHECK(node.budget.left() == 850);
        node.budget.take_update(200);  // and the connection breaks
        node.budget.settle_for_good();
        CHECK(node.budget.left() == 650);
        node.written += 30;
        node.budget.settle();
        CHECK(node.budget.left() == 620);
        CHECK(node.budget.last_update() == 200);
    }

    TEST_CASE("a file that is not a budget's is bad input") {
        Metered node;
        for (const char* text : {"", "1 2", "1 2 x\n", "1 -2 3 4\n", "1 2 3\n4"}) {
            CAPTURE(text);
            write_text(node.folder.path() / "uplink", text);
            CHECK_THROWS_WITH_AS(node.restarted(), doctest::Contains("uplink"), InputError);
        }
    }
}
