#include "aggregator/round.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <numeric>

#include <doctest/doctest.h>
#include <rapidcheck.h>

using namespace dither;
using namespace dither::round_event;
using round_action::Abandon;
using round_action::Accept;
using round_action::Close;
using round_action::Refuse;
using State = Round::ClientState;

namespace {

template <typename Action>
std::size_t count_of(const std::vector<RoundAction>& actions) {
    return static_cast<std::size_t>(std::count_if(actions.begin(), actions.end(), [](const RoundAction& action) {
        return std::holds_alternative<Action>(action);
    }));
}

std::vector<std::uint32_t> first_clients(std::uint32_t count) {
    std::vector<std::uint32_t> clients(count);
    std::iota(clients.begin(), clients.end(), 0U);
    return clients;
}

RoundEvent event_of(int kind, std::uint32_t client) {
    switch (kind) {
        case 0:
        case 1:
        case 2:
            return UpdateArrived{client};
        case 3:
            return ClientLost{client, "gone"};
        case 4:
            return UpdateRefused{client, "bad"};
        case 5:
            return ClientDiverged{client, "NaN"};
        default:
            return DeadlineReached{};
    }
}

struct Scenario {
    std::uint32_t asked = 1;
    RoundRules rules;
    std::vector<RoundEvent> events;
};

Scenario draw_scenario() {
    Scenario scenario;
    scenario.asked = *rc::gen::inRange<std::uint32_t>(1, 9);
    scenario.rules.cohort = *rc::gen::inRange<std::uint32_t>(1, scenario.asked + 1);
    scenario.rules.quorum = *rc::gen::inRange<std::uint32_t>(1, scenario.rules.cohort + 1);
    scenario.rules.divergence = *rc::gen::inRange<std::uint32_t>(1, scenario.rules.cohort + 1);
    const auto count = *rc::gen::inRange(0, 30);
    for (int i = 0; i < count; ++i) {
        // Divergence and the deadline end a round, so they come seldom; one client too many was never asked.
        const int kind = *rc::gen::weightedElement<int>({{6, 0}, {3, 3}, {3, 4}, {1, 5}, {1, 6}});
        scenario.events.push_back(event_of(kind, *rc::gen::inRange<std::uint32_t>(0, scenario.asked + 1)));
    }
    return scenario;
}

std::uint32_t ended_clients(const Round& round) {
    return round.count(State::accepted) + round.count(State::refused) + round.count(State::lost) +
           round.count(State::late);
}

}  // namespace

TEST_SUITE("aggregator/round") {
    TEST_CASE("a round closes with the last update of its cohort and calls the rest late") {
        Round round(3, {9, 4, 7}, {.cohort = 2, .quorum = 1});
        CHECK(count_of<Accept>(round.handle(UpdateArrived{7})) == 1);
        CHECK_FALSE(round.closed());
        const auto actions = round.handle(UpdateArrived{4});
        REQUIRE(actions.size() == 2);
        CHECK(std::get<Accept>(actions[0]).client == 4);
        CHECK(std::holds_alternative<Close>(actions[1]));
        CHECK(round.closed());
        CHECK(round.state_of(9) == State::late);
        const auto late = round.handle(UpdateArrived{9});
        REQUIRE(late.size() == 1);
        CHECK(std::get<Refuse>(late[0]).reason == "round 3 is over");
    }

    TEST_CASE("a round closes on its quorum when nobody is left to wait for") {
        Round round(1, {0, 1, 2}, {.cohort = 3, .quorum = 2});
        round.handle(UpdateArrived{0});
        round.handle(UpdateArrived{1});
        const auto actions = round.handle(ClientLost{2, "unplugged"});
        REQUIRE(actions.size() == 1);
        CHECK(std::holds_alternative<Close>(actions[0]));
    }

    TEST_CASE("a round is abandoned as soon as its quorum is out of reach, with the cause") {
        Round round(1, {0, 1, 2}, {.cohort = 3, .quorum = 2});
        CHECK(round.handle(ClientLost{0, "unplugged"}).empty());
        const auto actions = round.handle(ClientLost{1, "no data"});
        REQUIRE(actions.size() == 1);
        const std::string& reason = std::get<Abandon>(actions[0]).reason;
        CHECK(reason.find("client 1 is lost: no data") != std::string::npos);
        CHECK(reason.find("1 updates of the 2 needed") != std::string::npos);
    }

    TEST_CASE("the deadline closes a round that has its quorum and abandons one that has not") {
        Round enough(1, {0, 1, 2}, {.cohort = 3, .quorum = 1});
        enough.handle(UpdateArrived{1});
        CHECK(count_of<Close>(enough.handle(DeadlineReached{})) == 1);
        Round too_few(1, {0, 1, 2}, {.cohort = 3, .quorum = 2});
        too_few.handle(UpdateArrived{1});
        CHECK(count_of<Abandon>(too_few.handle(DeadlineReached{})) == 1);
        CHECK(too_few.handle(DeadlineReached{}).empty());
    }

    TEST_CASE("a client that diverges abandons the round at once") {
        Round round(1, {0, 1, 2}, {.cohort = 2, .quorum = 1});
        round.handle(UpdateArrived{0});
        const auto actions = round.handle(ClientDiverged{2, "loss is NaN at step 4"});
        REQUIRE(actions.size() == 1);
        CHECK(std::get<Abandon>(actions[0]).reason == "client 2 diverged: loss is NaN at step 4");
        CHECK(round.state_of(1) == State::late);
    }

    TEST_CASE("fewer diverged clients than the rules say are lost, and the round goes on, in any order") {
        const RoundRules rules{.cohort = 4, .quorum = 2, .divergence = 2};
        Round one(1, first_clients(4), rules);
        CHECK(one.handle(ClientDiverged{2, "NaN"}).empty());
        CHECK(one.state_of(2) == State::lost);
        for (const std::uint32_t client : {0U, 1U})
            CHECK(one.handle(UpdateArrived{client}).size() == 1);
        CHECK(count_of<Close>(one.handle(UpdateArrived{3})) == 1);
        Round two(1, first_clients(4), rules);
        for (const std::uint32_t client : {0U, 1U})
            two.handle(UpdateArrived{client});
        CHECK(two.handle(ClientDiverged{2, "NaN"}).empty());
        const auto actions = two.handle(ClientDiverged{3, "NaN"});
        REQUIRE(actions.size() == 1);
        CHECK(std::get<Abandon>(actions[0]).diverged);
        CHECK(std::get<Abandon>(actions[0]).reason == "2 clients diverged; client 3 diverged: NaN");
    }

    TEST_CASE("a quorum that divergence puts out of reach is a divergence once enough have diverged, and else none") {
        const RoundRules rules{.cohort = 4, .quorum = 4, .divergence = 2};
        Round many(1, first_clients(4), rules);
        CHECK(many.handle(ClientDiverged{0, "NaN"}).empty());
        CHECK(std::get<Abandon>(many.handle(ClientDiverged{1, "NaN"}).at(0)).diverged);
        Round few(1, first_clients(4), rules);
        few.handle(ClientDiverged{0, "NaN"});
        for (const std::uint32_t client : {1U, 2U})
            few.handle(UpdateArrived{client});
        const auto actions = few.handle(UpdateArrived{3});
        REQUIRE(count_of<Abandon>(actions) == 1);
        CHECK_FALSE(std::get<Abandon>(actions.back()).diverged);
    }

    TEST_CASE("a client's second update and a stranger's update are refused and change nothing") {
        Round round(1, {0, 1}, {.cohort = 2, .quorum = 2});
        round.handle(UpdateArrived{0});
        for (const std::uint32_t client : {0U, 5U}) {
            const auto actions = round.handle(UpdateArrived{client});
            REQUIRE(actions.size() == 1);
            CHECK(std::get<Refuse>(actions[0]).client == client);
        }
        CHECK(round.count(State::accepted) == 1);
        CHECK(round.count(State::pending) == 1);
        CHECK(round.handle(ClientDiverged{5, "NaN"}).empty());
        CHECK_FALSE(round.closed());
    }

    TEST_CASE("a round that makes no sense cannot be made") {
        CHECK_THROWS_AS(Round(1, {3, 3}, {.cohort = 1, .quorum = 1}), PreconditionError);
        CHECK_THROWS_AS(Round(1, {1, 2}, {.cohort = 3, .quorum = 1}), PreconditionError);
        CHECK_THROWS_AS(Round(1, {1, 2}, {.cohort = 1, .quorum = 0}), PreconditionError);
        CHECK_THROWS_AS(Round(1, {1, 2}, {.cohort = 1, .quorum = 2}), PreconditionError);
    }

    TEST_CASE("whatever happens, every client ends at most once, the round ends at most once and then only refuses") {
        CHECK(rc::check([] {
            const Scenario scenario = draw_scenario();
            Round round(1, first_clients(scenario.asked), scenario.rules);
            std::size_t ends = 0;
            std::size_t accepts = 0;
            for (const RoundEvent& event : scenario.events) {
                const bool was_closed = round.closed();
                const std::uint32_t ended_before = ended_clients(round);
                const auto actions = round.handle(event);
                ends += count_of<Close>(actions) + count_of<Abandon>(actions);
                accepts += count_of<Accept>(actions);
                if (was_closed)
                    RC_ASSERT(count_of<Refuse>(actions) == actions.size());
                RC_ASSERT(ended_clients(round) >= ended_before);
                RC_ASSERT(ended_clients(round) + round.count(State::pending) == scenario.asked);
                RC_ASSERT(round.count(State::accepted) == accepts);
                RC_ASSERT(accepts <= scenario.rules.cohort);
                RC_ASSERT(round.closed() == (ends == 1));
                RC_ASSERT(ends <= 1);
                RC_ASSERT(!round.closed() || round.count(State::pending) == 0);
                if (count_of<Close>(actions) == 1)
                    RC_ASSERT(accepts >= scenario.rules.quorum);
            }
        }));
    }

    TEST_CASE("whatever happens, the deadline ends the round") {
        CHECK(rc::check([] {
            const Scenario scenario = draw_scenario();
            Round round(1, first_clients(scenario.asked), scenario.rules);
            for (const RoundEvent& event : scenario.events)
                round.handle(event);
            round.handle(DeadlineReached{});
            RC_ASSERT(round.closed());
        }));
    }

    TEST_CASE(
        "a round without divergence or deadline closes exactly when enough of its clients deliver, in any order") {
        CHECK(rc::check([] {
            const auto asked = *rc::gen::inRange<std::uint32_t>(1, 9);
            const auto cohort = *rc::gen::inRange<std::uint32_t>(1, asked + 1);
            const auto quorum = *rc::gen::inRange<std::uint32_t>(1, cohort + 1);
            const auto delivers = *rc::gen::container<std::vector<bool>>(asked, rc::gen::arbitrary<bool>());
            std::vector<std::pair<int, std::uint32_t>> order;
            for (std::uint32_t client = 0; client < asked; ++client)
                order.emplace_back(*rc::gen::inRange(0, 1000), client);
            std::sort(order.begin(), order.end());
            Round round(1, first_clients(asked), {.cohort = cohort, .quorum = quorum});
            bool closed = false;
            for (const auto& [key, client] : order) {
                const auto actions =
                    delivers[client] ? round.handle(UpdateArrived{client}) : round.handle(ClientLost{client, "gone"});
                closed = closed || count_of<Close>(actions) == 1;
            }
            const auto delivered = std::count(delivers.begin(), delivers.end(), true);
            RC_ASSERT(round.closed());
            RC_ASSERT(closed == (delivered >= quorum));
        }));
    }
}
