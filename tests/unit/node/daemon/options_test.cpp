#include "node/daemon/options.hpp"

#include <doctest/doctest.h>

#include <iostream>
#include <sstream>

#include "tests/unit/temporary_folder.hpp"

using namespace dither;

namespace {

/// What the program makes of a command line; prints nothing.
struct Parsed {
    NodeOptions options;
    std::optional<int> exit_code;
    std::string errors;

    explicit Parsed(std::vector<std::string> words) {
        words.insert(words.begin(), "dither-node");
        std::vector<char*> arguments;
        for (std::string& word : words)
            arguments.push_back(word.data());
        std::ostringstream out;
        std::ostringstream err;
        auto* const cout = std::cout.rdbuf(out.rdbuf());
        auto* const cerr = std::cerr.rdbuf(err.rdbuf());
        exit_code = parse_command_line(static_cast<int>(arguments.size()), arguments.data(), options);
        std::cout.rdbuf(cout);
        std::cerr.rdbuf(cerr);
        errors = err.str();
    }
};

std::vector<std::string> usual(const std::vector<std::string>& more = {"--insecure-loopback"}) {
    std::vector<std::string> words{"--aggregator", "127.0.0.1:7100", "--data", "d", "--state", "s"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
}

}  // namespace

TEST_SUITE("node/daemon/options") {
    TEST_CASE(
        "a node leaves its client to the aggregator and takes what the machine has, unless it is told otherwise") {
        const Parsed parsed(usual());
        REQUIRE_FALSE(parsed.exit_code);
        CHECK(parsed.options.connection.aggregator == Endpoint{"127.0.0.1", 7100});
        CHECK_FALSE(parsed.options.connection.tls);
        CHECK(parsed.options.client == kAssignedClient);
        CHECK(parsed.options.limits == ResourceLimits{});
        CHECK(parsed.options.widths.empty());
        CHECK(parsed.options.uplink_budget == 0);
        CHECK(parsed.options.log_level == "info");
    }

    TEST_CASE("limits take units, widths are ascending") {
        const Parsed parsed(
            usual({"--insecure-loopback", "--threads", "2", "--memory", "64MiB", "--memory-limit", "256MiB", "--nice",
                   "10", "--uplink-budget", "5MB", "--widths", "32,8,4,8", "--quiet"}));
        REQUIRE_FALSE(parsed.exit_code);
        CHECK(parsed.options.limits ==
              ResourceLimits{.processors = 2, .memory = std::uint64_t{256} << 20, .niceness = 10});
        CHECK(parsed.options.step_memory == std::uint64_t{64} << 20);
        CHECK(parsed.options.uplink_budget == 5'000'000);
        CHECK(parsed.options.widths == std::vector<int>{4, 8, 32});
        CHECK(parsed.options.log_level == "warn");
    }

    TEST_CASE("log levels are the aggregator's") {
        for (const char* level : {"debug", "info", "warn", "error"})
            CHECK_FALSE(Parsed(usual({"--insecure-loopback", "--log-level", level})).exit_code);
        CHECK(Parsed(usual({"--insecure-loopback", "--log-level", "loud"})).exit_code == 2);
    }

    TEST_CASE("a node talks TLS, or says that it does not") {
        CHECK(Parsed(usual({})).exit_code == 2);
        CHECK(Parsed(usual({"--tls-cert", "c", "--tls-key", "k"})).exit_code == 2);
        CHECK(Parsed(usual({"--tls-cert", "c", "--tls-key", "k", "--tls-ca", "a", "--insecure-loopback"})).exit_code ==
              2);
        const Parsed parsed(usual({"--tls-cert", "c", "--tls-key", "k", "--tls-ca", "a", "--tls-crl", "r"}));
        REQUIRE_FALSE(parsed.exit_code);
        CHECK(parsed.options.connection.tls->authority == "a");
        CHECK(parsed.options.connection.tls->revoked == "r");
    }

    TEST_CASE("bad usage ends with 2, help and version with 0") {
        CHECK(Parsed({}).exit_code == 2);
        CHECK(Parsed(usual({"--insecure-loopback", "--widths", "17"})).exit_code == 2);
        CHECK(Parsed(usual({"--insecure-loopback", "--client", "4294967295"})).exit_code == 2);
        CHECK(Parsed(usual({"--insecure-loopback", "--memory", "much"})).exit_code == 2);
        CHECK(Parsed(usual({"--insecure-loopback", "--aggregator", "nowhere"})).exit_code == 2);
        CHECK(Parsed({"--help"}).exit_code == 0);
        CHECK(Parsed({"--version"}).exit_code == 0);
    }

    TEST_CASE("options may stand in a file, which the command line goes before; unknown ones are refused") {
        const test::TemporaryFolder folder;
        const auto file = folder.path() / "node.toml";
        test::write_text(file,
                         "aggregator = \"127.0.0.1:7200\"\ndata = \"/data\"\nstate = \"/state\"\n"
                         "insecure-loopback = true\nwidths = [4, 8]\nuplink-budget = \"1MiB\"\nnice = 5\n");
        const Parsed parsed({"--config", file.string(), "--nice", "7"});
        CAPTURE(parsed.errors);
        REQUIRE_FALSE(parsed.exit_code);
        CHECK(parsed.options.connection.aggregator.port == 7200);
        CHECK(parsed.options.data == "/data");
        CHECK(parsed.options.widths == std::vector<int>{4, 8});
        CHECK(parsed.options.uplink_budget == 1 << 20);
        CHECK(parsed.options.limits.niceness == 7);
        test::write_text(file, "aggregater = \"127.0.0.1:7200\"\n");
        CHECK(Parsed(usual({"--insecure-loopback", "--config", file.string()})).exit_code == 2);
    }
}
