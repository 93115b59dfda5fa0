#include "node/daemon/membership.hpp"

#include <doctest/doctest.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <new>
#include <sstream>
#include <system_error>

#include "core/config.hpp"
#include "core/error.hpp"
#include "tests/unit/made_up_data.hpp"
#include "tests/unit/node/daemon/scripted_channel.hpp"

using namespace dither;
using namespace std::chrono_literals;

namespace {

/// A life of a node: each attempt to connect meets the next of `attempts`; after the last one it is told to leave.
struct Life {
    using Attempt = std::function<std::unique_ptr<Channel>()>;

    Dataset data = two_blobs(60);
    Session session{{.node = "edge", .client = 1, .data = &data}};
    std::deque<Attempt> attempts;
    std::vector<std::chrono::milliseconds> pauses;
    std::vector<Message> said;
    std::ostringstream logged;

    Ending live() {
        spdlog::logger log("test", std::make_shared<spdlog::sinks::ostream_sink_st>(logged));
        const auto connect = [this] {
            const Attempt attempt = std::move(attempts.front());
            attempts.pop_front();
            return attempt();
        };
        const auto wait = [this](std::chrono::milliseconds pause) {
            pauses.push_back(pause);
            return !attempts.empty();
        };
        return Membership(session, connect, wait, 5, log).stay();
    }

    void meets(std::deque<Message> heard, std::exception_ptr end = nullptr) {
        attempts.emplace_back([this, heard = std::move(heard), end] {
            return std::make_unique<test::ScriptedChannel>(heard, said, end);
        });
    }
    template <typename Error>
    void fails_with(const auto& why) {
        attempts.emplace_back([why = Error(why)]() -> std::unique_ptr<Channel> { throw why; });
    }

    std::size_t times_logged(const std::string& text) const {
        const std::string all = logged.str();
        std::size_t count = 0;
        for (auto at = all.find(text); at != std::string::npos; at = all.find(text, at + 1))
            ++count;
        return count;
    }
};

Welcome welcome() {
    Job job;
    job.model.name = "linear";
    job.federation.clients = 3;
    job.federation.cohort = 1;
    return {to_toml(job), 1};
}

}  // namespace

TEST_SUITE("node/daemon/membership") {
    TEST_CASE("a node leaves when the run is complete") {
        Life life;
        life.meets({welcome(), Stop{"the run is complete"}});
        CHECK(life.live() == Ending::complete);
        CHECK(life.said == std::vector<Message>{Hello{.node = "edge", .client = 1}});
        CHECK(life.pauses.empty());
    }

    TEST_CASE("a node comes back from every other stop, from lost connections and from an aggregator that is away") {
        Life life;
        life.meets({welcome(), Stop{"the run was interrupted"}});
        life.fails_with<IoError>("connection refused");
        life.meets({welcome()});
        life.meets({welcome()}, std::make_exception_ptr(IoError("connection reset")));
        life.meets({welcome(), Stop{"the run is complete"}});
        CHECK(life.live() == Ending::complete);
        CHECK(life.said.size() == 4);
    }

    TEST_CASE("a node that is told to leave does so at its next pause") {
        Life life;
        life.fails_with<IoError>("connection refused");
        CHECK(life.live() == Ending::told_to_leave);
        CHECK(life.pauses.size() == 1);
    }

    TEST_CASE("pauses grow while the aggregator is away, and begin anew after a welcome") {
        Life life;
        for (int i = 0; i < 12; ++i)
            life.fails_with<IoError>("connection refused");
        life.meets({welcome()});
        life.live();
        REQUIRE(life.pauses.size() == 13);
        CHECK(*std::max_element(life.pauses.begin(), life.pauses.end() - 1) > 5s);
        CHECK(life.pauses.back() <= 1500ms);
    }

    TEST_CASE("whoever is refused asks again seldom, and logs it once") {
        Life life;
        for (int i = 0; i < 5; ++i)
            life.meets({Stop{"client 1 is another node's"}});
        life.meets({}, std::make_exception_ptr(FormatError("protocol version 9, expected 5")));
        life.meets({Welcome{"[job]\nname = 3\n", 1}});  // a job that this node cannot use
        life.live();
        for (const auto pause : life.pauses)
            CHECK(pause >= 45s);
        CHECK(life.times_logged("client 1 is another node's") == 1);
        CHECK(life.times_logged("protocol version 9") == 1);
    }

    TEST_CASE("a node that is stopped after its welcome asks again seldom: another may have its id") {
        Life life;
        for (int i = 0; i < 5; ++i)
            life.meets({welcome(), Stop{"this node has connected again"}});
        life.live();
        CHECK(life.pauses.size() == 5);
        for (const auto pause : life.pauses)
            CHECK(pause >= 45s);
        CHECK(life.times_logged("connected again") == 1);
    }

    TEST_CASE("a node without memory or threads for a conversation tries again") {
        Life life;
        life.meets({welcome()}, std::make_exception_ptr(std::bad_alloc()));
        life.attempts.emplace_back([]() -> std::unique_ptr<Channel> { throw std::bad_alloc(); });
        life.fails_with<std::system_error>(std::make_error_code(std::errc::resource_unavailable_try_again));
        life.meets({welcome(), Stop{"the run is complete"}});
        CHECK(life.live() == Ending::complete);
        CHECK(life.times_logged("no memory is left for the conversation") == 1);
    }

    TEST_CASE("a trouble that comes back after a welcome is logged again") {
        Life life;
        life.fails_with<IoError>("connection refused");
        life.fails_with<IoError>("connection refused");
        life.meets({welcome()});
        life.fails_with<IoError>("connection refused");
        life.live();
        CHECK(life.times_logged("connection refused") == 2);
    }

    TEST_CASE("files that cannot be used end a node that starts, not one that runs") {
        Life starts;
        starts.fails_with<InputError>("no certificate");
        CHECK_THROWS_AS(starts.live(), InputError);
        Life runs;
        runs.meets({welcome()});
        runs.fails_with<InputError>("no certificate");
        runs.meets({welcome(), Stop{"the run is complete"}});
        CHECK(runs.live() == Ending::complete);
    }
}
