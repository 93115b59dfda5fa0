// Many nodes in one process, each with a connection, a certificate and a session of its own, as dither-node has them:
// the load for tests/bench/nodes.sh. Their data is one small table in memory, so that what is measured is the
// aggregator.
#include <CLI/CLI.hpp>
#include <atomic>
#include <cstdio>
#include <filesystem>
#include <thread>
#include <vector>

#include "core/config.hpp"
#include "core/error.hpp"
#include "node/daemon/membership.hpp"
#include "transport/tcp.hpp"

#include <spdlog/sinks/null_sink.h>
#include <spdlog/spdlog.h>

namespace dither {
namespace {

struct Options {
    std::string aggregator;
    std::filesystem::path certificates;
    std::string table;
    unsigned nodes = 100;
};

Options parse(int argc, char** argv) {
    CLI::App app("Hosts many nodes, edge-1 to edge-N, of which each trains on the same small table.");
    Options options;
    app.add_option("--aggregator", options.aggregator, "Where it listens")->required()->type_name("HOST:PORT");
    app.add_option("--certificates", options.certificates, "Folder with edge-I.crt, edge-I.key and ca.crt")->required();
    app.add_option("--table", options.table, "Training data, CSV")->required();
    app.add_option("--nodes", options.nodes, "How many")->capture_default_str();
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        std::exit(app.exit(error));
    }
    return options;
}

/// True if the aggregator said that the run is complete.
bool take_part(const Options& options, unsigned number, const Dataset& data) {
    const std::string name = fmt::format("edge-{}", number);
    spdlog::logger silent(name, std::make_shared<spdlog::sinks::null_sink_mt>());
    const TcpChannelOptions connection{.aggregator = parse_endpoint(options.aggregator),
                                       .tls = TlsFiles{.certificate = options.certificates / (name + ".crt"),
                                                       .key = options.certificates / (name + ".key"),
                                                       .authority = options.certificates / "ca.crt",
                                                       .revoked = {}}};
    Session session({.node = name, .client = kAssignedClient, .data = &data});
    Membership membership(
        session, [&] { return connect_tcp(connection); },
        [](std::chrono::milliseconds pause) {
            std::this_thread::sleep_for(pause);
            return true;
        },
        number, silent);
    return membership.stay() == Ending::complete;
}

int run(const Options& options) {
    const Dataset data = load_data({.format = "csv", .path = options.table}, 1).train;
    std::atomic<unsigned> complete{0};
    {
        std::vector<std::jthread> threads;
        for (unsigned number = 1; number <= options.nodes; ++number)
            threads.emplace_back([&, number] {
                try {
                    complete += take_part(options, number, data) ? 1 : 0;
                } catch (const std::exception& error) {
                    fmt::print(stderr, "edge-{}: {}\n", number, error.what());
                }
            });
    }
    fmt::print("{} of {} nodes heard that the run is complete\n", complete.load(), options.nodes);
    return complete == options.nodes ? 0 : 1;
}

}  // namespace
}  // namespace dither

int main(int argc, char** argv) {
    return dither::run(dither::parse(argc, argv));
}
