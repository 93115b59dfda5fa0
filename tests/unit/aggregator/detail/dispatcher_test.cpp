#include "aggregator/detail/dispatcher.hpp"

#include <algorithm>
#include <array>
#include <set>

#include <doctest/doctest.h>
#include <rapidcheck.h>

using namespace dither;
using Assignment = Dispatcher::Assignment;

namespace {

std::vector<Assignment> take_all(Dispatcher& dispatcher) {
    std::vector<Assignment> taken;
    while (const auto assignment = dispatcher.next())
        taken.push_back(*assignment);
    return taken;
}

}  // namespace

TEST_SUITE("aggregator/dispatcher") {
    TEST_CASE("tasks spread over the workers, two in flight each, and go on as they are answered") {
        Dispatcher dispatcher;
        dispatcher.join(1, kAnyClient);
        dispatcher.join(2, kAnyClient);
        dispatcher.start(1, std::array{10U, 11U, 12U, 13U, 14U});
        const std::vector<Assignment> expected{{1, {1, 10}}, {2, {1, 11}}, {1, {1, 12}}, {2, {1, 13}}};
        CHECK(take_all(dispatcher) == expected);
        CHECK(dispatcher.finish(2, {1, 11}));
        CHECK(take_all(dispatcher) == std::vector<Assignment>{{2, {1, 14}}});
    }

    TEST_CASE("a client goes to the peer that speaks for it, and waits for it") {
        Dispatcher dispatcher;
        dispatcher.join(1, kAnyClient);
        dispatcher.join(2, 11);
        dispatcher.start(1, std::array{10U, 11U});
        CHECK(take_all(dispatcher) == std::vector<Assignment>{{1, {1, 10}}, {2, {1, 11}}});
        dispatcher.start(2, std::array{11U});
        CHECK(take_all(dispatcher) == std::vector<Assignment>{{2, {2, 11}}});
        dispatcher.start(3, std::array{11U});
        CHECK(take_all(dispatcher).empty());
        CHECK(dispatcher.take_unreachable().empty());
    }

    TEST_CASE("a lost worker's tasks go to another one") {
        Dispatcher dispatcher;
        dispatcher.join(1, kAnyClient);
        dispatcher.join(2, kAnyClient);
        dispatcher.start(1, std::array{10U, 11U});
        take_all(dispatcher);
        dispatcher.lose(1);
        CHECK(dispatcher.take_unreachable().empty());
        CHECK(take_all(dispatcher) == std::vector<Assignment>{{2, {1, 10}}});
    }

    TEST_CASE("a task that two peers did not survive is given to no third, and what waited behind it is") {
        Dispatcher dispatcher;
        for (PeerId peer = 1; peer <= 3; ++peer)
            dispatcher.join(peer, kAnyClient);
        dispatcher.start(1, std::array{10U});
        CHECK(take_all(dispatcher) == std::vector<Assignment>{{1, {1, 10}}});
        dispatcher.lose(1);
        CHECK(dispatcher.take_poisonous().empty());
        CHECK(take_all(dispatcher) == std::vector<Assignment>{{2, {1, 10}}});
        dispatcher.lose(2);
        CHECK(dispatcher.take_poisonous() == std::vector<std::uint32_t>{10});
        CHECK(dispatcher.take_poisonous().empty());
        CHECK(take_all(dispatcher).empty());

        dispatcher.start(2, std::array{10U, 11U});  // a new round, a new chance
        CHECK(take_all(dispatcher) == std::vector<Assignment>{{3, {2, 10}}, {3, {2, 11}}});
        dispatcher.lose(3);
        CHECK(dispatcher.take_poisonous().empty());
        dispatcher.join(4, kAnyClient);
        CHECK(take_all(dispatcher).size() == 2);
    }

    TEST_CASE("clients that nobody hosts any more are given up once") {
        Dispatcher dispatcher;
        dispatcher.join(1, 10);
        dispatcher.join(2, 11);
        dispatcher.start(1, std::array{10U, 11U, 12U});
        CHECK(dispatcher.take_unreachable() == std::vector<std::uint32_t>{12});
        take_all(dispatcher);
        dispatcher.lose(2);
        CHECK(dispatcher.take_unreachable() == std::vector<std::uint32_t>{11});
        CHECK(dispatcher.take_unreachable().empty());
    }

    TEST_CASE("clients that nobody hosts wait for as long as they are not given up") {
        Dispatcher dispatcher;
        dispatcher.join(1, 10);
        dispatcher.start(1, std::array{10U, 11U, 12U});
        const auto given_up = [](std::uint32_t client) { return client == 12; };
        CHECK(dispatcher.take_unreachable(given_up) == std::vector<std::uint32_t>{12});
        CHECK(dispatcher.take_unreachable(given_up).empty());
        dispatcher.join(2, 11);
        CHECK(take_all(dispatcher).size() == 2);
    }

    TEST_CASE("a peer that only leaves has lost no task, however often") {
        Dispatcher dispatcher;
        dispatcher.start(1, std::array{10U});
        for (PeerId peer = 1; peer <= 5; ++peer) {
            CHECK_FALSE(dispatcher.host_of(10).has_value());
            dispatcher.join(peer, 10);
            CHECK(dispatcher.host_of(10) == std::optional(peer));
            CHECK(take_all(dispatcher).size() == 1);
            dispatcher.leave(peer);
        }
        CHECK(dispatcher.take_poisonous().empty());
        CHECK(dispatcher.take_unreachable() == std::vector<std::uint32_t>{10});
    }

    TEST_CASE("an answer counts only from the peer that was asked, and only once") {
        Dispatcher dispatcher;
        dispatcher.join(1, kAnyClient);
        dispatcher.join(2, kAnyClient);
        dispatcher.start(1, std::array{10U});
        take_all(dispatcher);
        CHECK_FALSE(dispatcher.finish(2, {1, 10}));
        CHECK_FALSE(dispatcher.finish(1, {2, 10}));
        CHECK_FALSE(dispatcher.finish(7, {1, 10}));
        CHECK(dispatcher.finish(1, {1, 10}));
        CHECK_FALSE(dispatcher.finish(1, {1, 10}));
    }

    TEST_CASE("a client has one host, and a peer joins once") {
        Dispatcher dispatcher;
        CHECK(dispatcher.join(1, 5));
        CHECK_FALSE(dispatcher.join(2, 5));
        CHECK_FALSE(dispatcher.join(1, kAnyClient));
        dispatcher.lose(1);
        CHECK(dispatcher.join(2, 5));
        CHECK(dispatcher.peers() == std::vector<PeerId>{2});
    }

    TEST_CASE("tasks of an earlier round keep their worker busy and never come back") {
        Dispatcher dispatcher;
        dispatcher.join(1, kAnyClient);
        dispatcher.start(1, std::array{10U, 11U, 12U});
        take_all(dispatcher);
        dispatcher.start(2, std::array{20U});
        CHECK(take_all(dispatcher).empty());
        CHECK(dispatcher.finish(1, {1, 10}));
        CHECK(take_all(dispatcher) == std::vector<Assignment>{{1, {2, 20}}});
        dispatcher.lose(1);
        dispatcher.join(2, kAnyClient);
        CHECK(take_all(dispatcher) == std::vector<Assignment>{{2, {2, 20}}});
    }

    TEST_CASE("while one worker lives, every client is answered or given up once, whoever else is lost") {
        CHECK(rc::check([] {
            Dispatcher dispatcher;
            const auto workers = *rc::gen::inRange<PeerId>(1, 5);
            for (PeerId peer = 0; peer < workers; ++peer)
                dispatcher.join(peer, kAnyClient);
            const auto clients = *rc::gen::unique<std::vector<std::uint32_t>>(rc::gen::inRange(0U, 50U));
            dispatcher.start(1, clients);
            std::set<std::uint32_t> given_up;
            std::vector<Assignment> in_flight;
            std::set<std::uint32_t> answered;
            PeerId alive = 0;  // workers below it are lost
            while (answered.size() + given_up.size() < clients.size()) {
                RC_ASSERT(dispatcher.take_unreachable().empty());
                for (const Assignment& assignment : take_all(dispatcher))
                    in_flight.push_back(assignment);
                RC_ASSERT(!in_flight.empty());
                if (alive + 1 < workers && *rc::gen::inRange(0, 4) == 0) {
                    dispatcher.lose(alive);
                    for (const std::uint32_t client : dispatcher.take_poisonous())
                        RC_ASSERT(given_up.insert(client).second);
                    std::erase_if(in_flight, [&](const Assignment& a) { return a.peer == alive; });
                    ++alive;
                    continue;
                }
                const auto which = static_cast<std::size_t>(*rc::gen::inRange(0, static_cast<int>(in_flight.size())));
                RC_ASSERT(dispatcher.finish(in_flight[which].peer, in_flight[which].task));
                RC_ASSERT(answered.insert(in_flight[which].task.client).second);
                in_flight.erase(in_flight.begin() + static_cast<std::ptrdiff_t>(which));
            }
            RC_ASSERT(take_all(dispatcher).empty());
        }));
    }
}
