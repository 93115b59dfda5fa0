#include "node/daemon/options.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>

#include "core/compute/backend.hpp"
#include "core/config.hpp"
#include "core/error.hpp"
#include "core/version.hpp"

namespace dither {
namespace {

constexpr int kBadInput = 2;

constexpr const char* kFooter =
    "Examples:\n"
    "  dither-node --aggregator fed.example.org:7100 --data /srv/images --state /var/lib/dither \\\n"
    "      --tls-cert node.pem --tls-key node.key --tls-ca authority.pem\n"
    "  dither-node --config /etc/dither/node.toml --check\n"
    "  dither-node --aggregator 127.0.0.1:7100 --data table.csv --state /tmp/node-1 --insecure-loopback\n"
    "\nEvery option may stand in the file that --config names, under its long name: aggregator = \"HOST:PORT\".\n"
    "Sizes take units: 64MiB, 500kB.\n"
    "\nExit codes: 0 the run is complete, 1 failed while running, 2 bad usage or input, 130/143 stopped by a signal.";

/// What the command line says, before it is understood.
struct Words {
    std::string aggregator;
    TlsFiles tls;
    bool insecure_loopback = false;
    bool quiet = false;
};

std::string version_text() {
    const auto backend = make_backend(ComputeOptions{});
    return fmt::format("dither-node {} ({}, {})", version(), backend->name(), backend->instruction_set());
}

void declare_connection(CLI::App& app, Words& words) {
    app.add_option("--aggregator", words.aggregator, "Where the aggregator listens")
        ->type_name("HOST:PORT")
        ->required();
    auto* certificate =
        app.add_option("--tls-cert", words.tls.certificate, "This node's certificate, PEM; its name is the node's id")
            ->type_name("FILE");
    auto* key = app.add_option("--tls-key", words.tls.key, "Its private key, PEM")->type_name("FILE");
    auto* authority =
        app.add_option("--tls-ca", words.tls.authority, "The authority that signed the aggregator's certificate, PEM")
            ->type_name("FILE");
    certificate->needs(key)->needs(authority);
    key->needs(certificate);
    authority->needs(certificate);
    app.add_option("--tls-crl", words.tls.revoked, "The authority's revocation list, PEM")
        ->type_name("FILE")
        ->needs(certificate);
    app.add_flag("--insecure-loopback", words.insecure_loopback, "No TLS, to an aggregator on this machine only")
        ->excludes(certificate);
}

void declare_node(CLI::App& app, NodeOptions& options) {
    app.add_option("--data", options.data, "This node's data, in the format that the job says; it never leaves")
        ->type_name("PATH")
        ->required();
    app.add_option("--state", options.state, "The folder for what must survive this node")
        ->type_name("DIR")
        ->required();
    app.add_option("--id", options.id, "This node's id, [a-z0-9_-]{1,64} (default: the certificate's, else made once)")
        ->type_name("NAME");
    app.add_option("--client", options.client,
                   "The client that it speaks for (default: the aggregator assigns one, for ever)")
        ->type_name("N")
        ->check(CLI::Range(0U, kAssignedClient - 1));
    app.add_option("--widths", options.widths, "The bit widths that it executes: 2..16 or 32 (default: all)")
        ->type_name("4,8,32")
        ->delimiter(',')
        ->check(CLI::Range(2, 16) | CLI::IsMember({32}));
}

void declare_limits(CLI::App& app, NodeOptions& options) {
    const auto size = CLI::AsSizeValue(true);
    app.add_option("--threads", options.limits.processors, "Use at most so many processors at a time (default: all)")
        ->type_name("N")
        ->check(CLI::Range(1U, 1024U));
    app.add_option("--memory", options.step_memory,
                   "What a training step may take: the aggregator's plans keep within it, as far as they can")
        ->type_name("BYTES")
        ->transform(size);
    app.add_option("--memory-limit", options.limits.memory,
                   "What the whole process may take: a task that needs more fails")
        ->type_name("BYTES")
        ->transform(size);
    app.add_option("--nice", options.limits.niceness, "How far it steps back behind other processes")
        ->type_name("N")
        ->check(CLI::Range(0, 19));
    app.add_option("--uplink-budget", options.uplink_budget,
                   "Bytes that it may send on a day (UTC), those of TLS included; beyond, it declines tasks (default: "
                   "not metered)")
        ->type_name("BYTES")
        ->transform(size);
}

void declare_program(CLI::App& app, NodeOptions& options, Words& words) {
    app.footer(kFooter);
    app.add_flag("--check", options.check,
                 "Do not join: see whether data, certificates, clock, state and aggregator are as they must be");
    app.set_config("--config", "", "Read options from this file (TOML); the command line goes before it")
        ->type_name("FILE");
    app.allow_config_extras(CLI::config_extras_mode::error);
    app.add_option("--log-level", options.log_level, "What to log to stderr: debug, info, warn or error")
        ->default_val("info")
        ->check(CLI::IsMember({"debug", "info", "warn", "warning", "error"}));
    app.add_flag("--quiet", words.quiet, "The same as --log-level warn")->excludes("--log-level");
    app.set_version_flag("--version", version_text);
}

/// What CLI11 cannot check.
void understand(const Words& words, NodeOptions& options) {
    options.connection.aggregator = parse_endpoint(words.aggregator);
    if (!words.tls.certificate.empty())
        options.connection.tls = words.tls;
    else if (!words.insecure_loopback)
        throw InputError("needs --tls-cert, --tls-key and --tls-ca, or --insecure-loopback");
    std::ranges::sort(options.widths);
    const auto repeated = std::ranges::unique(options.widths);
    options.widths.erase(repeated.begin(), repeated.end());
    if (words.quiet)
        options.log_level = "warn";
}

}  // namespace

std::optional<int> parse_command_line(int argc, char** argv, NodeOptions& options) {
    CLI::App app("Trains on this machine's data for a federation, and sends what it learnt, in few bits.");
    Words words;
    declare_connection(app, words);
    declare_node(app, options);
    declare_limits(app, options);
    declare_program(app, options, words);
    try {
        app.parse(argc, argv);
        understand(words, options);
    } catch (const CLI::ParseError& error) {
        const bool asked = error.get_exit_code() == 0;  // --help or --version
        app.exit(error, std::cout, std::cerr);
        return asked ? 0 : kBadInput;
    } catch (const InputError& error) {
        std::cerr << "dither-node: " << error.what() << '\n';
        return kBadInput;
    }
    return std::nullopt;
}

}  // namespace dither
