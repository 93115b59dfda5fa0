#include "node/daemon/metered_channel.hpp"

#include <doctest/doctest.h>

#include "tests/unit/node/daemon/scripted_channel.hpp"
#include "tests/unit/temporary_folder.hpp"
#include "transport/frame.hpp"

using namespace dither;

namespace {

struct Link {
    test::TemporaryFolder folder;
    std::vector<Message> said;
    std::uint64_t written = 0;  ///< by sockets
    UplinkBudget budget;

    explicit Link(std::uint64_t bytes)
        : budget(
              folder.path() / "uplink", bytes, [] { return 1; }, [this] { return written; }) {}

    MeteredChannel channel(std::deque<Message> heard = {}) {
        return {std::make_unique<test::ScriptedChannel>(std::move(heard), said), budget};
    }
};

Update update_of(std::size_t bytes) {
    Update update{.round = 3, .client = 2, .payload = std::vector<std::byte>(bytes)};
    update.report.samples = update.report.steps = 1;
    return update;
}

RoundPlan plan_of(std::uint32_t round) {
    return {.round = round, .client = 2, .plan = PrecisionPlan::uniform(1, 8)};
}

}  // namespace

TEST_SUITE("node/daemon/metered_channel") {
    TEST_CASE("every frame that is said is counted to the byte") {
        Link link(10'000);
        auto channel = link.channel();
        const Message hello = Hello{.node = "edge"};
        const Message update = update_of(500);
        channel.send(hello);
        channel.send(update);
        CHECK(link.said == std::vector<Message>{hello, update});
        CHECK(link.budget.left() == 10'000 - encode_frame(hello).size() - encode_frame(update).size());
    }

    TEST_CASE(
        "what the network takes beyond the frames is settled: handshakes, even of attempts that failed, and TLS") {
        Link link(10'000);
        link.written = 900;
        {
            auto channel = link.channel({UpdateAck{.round = 3, .client = 2, .accepted = true}});
            CHECK(link.budget.left() == 9100);
            const std::size_t frame = encode_frame(update_of(500)).size();
            channel.send(update_of(500));
            CHECK(link.budget.left() == 9100 - frame);
            link.written += frame + 22;
            channel.receive();
            CHECK(link.budget.left() == 9100 - frame - 22);
            link.written += 24;
        }
        CHECK(link.budget.left() == 10'000 - link.written);
    }

    TEST_CASE("what was paid for and never sent pays for nothing else") {
        Link link(10'000);
        link.channel().send(update_of(500));
        const std::uint64_t left = link.budget.left();
        CHECK(left < 9500);
        link.written += 300;
        link.channel();
        CHECK(link.budget.left() == left - 300);
    }

    TEST_CASE("an update beyond the budget is not sent: the aggregator hears why") {
        Link link(400);
        link.channel().send(update_of(500));
        REQUIRE(link.said.size() == 1);
        const auto& failed = std::get<Failed>(link.said[0]);
        CHECK(failed.round == 3);
        CHECK(failed.client == 2);
        CHECK_FALSE(failed.diverged);
        CHECK(failed.reason.find("of today's uplink budget of 400 bytes 400 are left, and an update takes") == 0);
    }

    TEST_CASE("a task that the node cannot afford is declined before it trains, and all else is heard") {
        Link link(1000);
        link.channel().send(update_of(500));
        link.said.clear();
        auto channel = link.channel({plan_of(4), UpdateAck{.round = 3, .client = 2, .accepted = true}});
        const auto heard = channel.receive();
        REQUIRE(heard);
        CHECK(std::holds_alternative<UpdateAck>(*heard));
        REQUIRE(link.said.size() == 1);
        CHECK(std::get<Failed>(link.said[0]).round == 4);
        CHECK_FALSE(channel.receive());
    }

    TEST_CASE("a task that the node can afford reaches it") {
        Link link(10'000);
        const auto heard = link.channel({plan_of(4)}).receive();
        REQUIRE(heard);
        CHECK(std::get<RoundPlan>(*heard) == plan_of(4));
        CHECK(link.said.empty());
    }
}
