// dither-node: one machine's part in a federation. It trains on data that stays where it is, and finds its way back to
// the aggregator whatever happens to either.
#include <fmt/format.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <chrono>
#include <exception>
#include <iostream>
#include <optional>
#include <random>
#include <utility>

#include "core/error.hpp"
#include "node/daemon/certificate.hpp"
#include "node/daemon/check.hpp"
#include "node/daemon/interruption.hpp"
#include "node/daemon/membership.hpp"
#include "node/daemon/metered_channel.hpp"
#include "node/daemon/narration.hpp"
#include "node/daemon/options.hpp"
#include "node/daemon/state_folder.hpp"
#include "node/session.hpp"

namespace dither {
namespace {

constexpr int kFailed = 1;
constexpr int kBadInput = 2;

std::uint64_t random_number() {
    std::random_device device;
    return std::uint64_t{device()} << 32 | device();
}

UplinkBudget::Day today() {
    return std::chrono::floor<std::chrono::days>(std::chrono::system_clock::now()).time_since_epoch().count();
}

int check(const NodeOptions& options) {
    bool good = true;
    for (const Finding& finding : check_node(options, std::chrono::system_clock::now())) {
        fmt::print("{:<12} {:<7} {}\n", finding.subject, finding.good ? "ok" : "failed", finding.text);
        good = good && finding.good;
    }
    return good ? 0 : kFailed;
}

int run(const NodeOptions& options, Interruption& interruption, spdlog::logger& log) {
    apply(options.limits);
    const StateFolder state(options.state);
    const auto& tls = options.connection.tls;
    const std::string id =
        identify(state, options.id, tls ? certified_node(tls->certificate) : std::string(), random_number());
    std::atomic<std::uint64_t> written{0};
    TcpChannelOptions connection = options.connection;
    connection.written = [&written](std::uint64_t bytes) { written += bytes; };
    std::optional<UplinkBudget> budget;
    if (options.uplink_budget > 0)
        budget.emplace(state.path() / "uplink", options.uplink_budget, today, [&written] { return written.load(); });

    SessionSetup setup{.node = id, .client = options.client, .data_path = options.data, .state = state.path().string()};
    setup.device.widths = options.widths;
    setup.device.memory = options.step_memory;
    setup.watch = narrate(log);
    Session session(std::move(setup));
    const auto connect = [&]() -> std::unique_ptr<Channel> {
        auto channel = interruption.hold(connect_tcp(connection));
        log.info("connected to {}", to_string(connection.aggregator));
        if (budget)
            return std::make_unique<MeteredChannel>(std::move(channel), *budget);
        return channel;
    };
    const auto wait = [&](std::chrono::milliseconds pause) { return interruption.wait(pause); };
    log.info("node '{}' starts", id);
    Membership membership(session, connect, wait, static_cast<std::uint32_t>(random_number()), log);
    const bool complete = membership.stay() == Ending::complete;
    log.info(complete ? kRunComplete : "stopped by a signal");
    return complete ? 0 : 128 + interruption.signal();
}

int report(const std::exception& error, int exit_code) {
    std::cerr << "dither-node: " << error.what() << '\n';
    return exit_code;
}

}  // namespace
}  // namespace dither

int main(int argc, char** argv) {
    using namespace dither;
    NodeOptions options;
    if (const auto exit_code = parse_command_line(argc, argv, options))
        return *exit_code;
    try {
        if (options.check)
            return check(options);
        Interruption interruption;
        const auto log = spdlog::stderr_color_mt("dither-node");
        log->set_level(spdlog::level::from_str(options.log_level));
        log->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %l: %v");
        return run(options, interruption, *log);
    } catch (const InputError& error) {
        return report(error, kBadInput);
    } catch (const std::exception& error) {
        return report(error, kFailed);
    }
}
