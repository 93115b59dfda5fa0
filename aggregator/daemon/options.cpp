#include "aggregator/daemon/options.hpp"

#include "core/config.hpp"
#include "core/error.hpp"
#include "core/version.hpp"

#include <CLI/CLI.hpp>

#include <iostream>
#include <string_view>
#include <utility>

namespace dither {

namespace {

constexpr int kBadUsage = 2;
constexpr std::string_view kLoopback = "127.0.0.1:";

/// What CLI11 fills and options are made from.
struct Texts {
    std::string listen;
    std::string http;
    TlsFiles tls;
    bool insecure = false;
};

void declare(CLI::App& app, DaemonOptions& options, Texts& texts) {
    app.add_option("JOB", options.job, "The job file (TOML)")->required();
    app.add_option("--listen", texts.listen, "Where nodes connect")->required()->type_name("HOST:PORT");
    app.add_option("--state", options.state,
                   "The folder of the run: checkpoint, journal, log; continued if it holds one")
        ->required()
        ->type_name("DIR");
    app.add_option("--tls-cert", texts.tls.certificate, "This server's certificate (PEM)")->type_name("FILE");
    app.add_option("--tls-key", texts.tls.key, "Its key (PEM)")->type_name("FILE");
    app.add_option("--tls-ca", texts.tls.authority, "The authority that signs nodes' certificates (PEM)")
        ->type_name("FILE");
    app.add_option("--tls-crl", texts.tls.revoked, "Certificates that it has revoked (PEM)")->type_name("FILE");
    app.add_flag("--insecure-loopback", texts.insecure, "No TLS; only for --listen on a loopback address");
    app.add_option("--allow", options.hub.allowed,
                   "Node ids that may join, one a line (default: all with a certificate)")
        ->type_name("FILE");
    app.add_option("--set", options.overrides, "Override one key of the job: section.key=value")
        ->type_name("K=V")
        ->allow_extra_args(false);
    app.add_option("--data", options.data, "The data whose test set evaluates the model (overrides data.path)")
        ->type_name("PATH");
    app.add_option("--nodes", options.nodes, "Nodes to wait for before the first round (default: the job's cohort)");
    app.add_option("--http", texts.http,
                   "Serve /status, /metrics and /healthz there; on loopback if only a port is given")
        ->type_name("[HOST:]PORT");
    app.add_flag("--fresh", options.fresh, "Refuse to continue a run that the folder holds already");
    app.add_option("--connections", options.hub.connections, "Connections at most (default: 16384)")
        ->check(CLI::Range(1U, 1U << 20));
    app.add_option("--log-level", options.log_level, "debug, info, warn or error (default: info)")
        ->check(CLI::IsMember({"debug", "info", "warn", "error"}))
        ->default_str("info");
}

TlsFiles complete(TlsFiles files) {
    const std::pair<std::string_view, const std::filesystem::path*> needed[] = {
        {"--tls-cert", &files.certificate}, {"--tls-key", &files.key}, {"--tls-ca", &files.authority}};
    for (const auto& [name, file] : needed)
        if (file->empty())
            throw InputError(
                fmt::format("{} is missing: expected it, or --insecure-loopback on a loopback address", name));
    return files;
}

void convert(const Texts& texts, DaemonOptions& options) {
    options.hub.listen = parse_endpoint(texts.listen);
    const bool has_tls = !texts.tls.certificate.empty() || !texts.tls.key.empty() || !texts.tls.authority.empty();
    if (texts.insecure && has_tls)
        throw InputError("--insecure-loopback and --tls-...: expected one of the two");
    if (!texts.insecure)
        options.hub.tls = complete(texts.tls);
    if (const bool port_alone = texts.http.find(':') == std::string::npos; !texts.http.empty())
        options.http = parse_endpoint(port_alone ? std::string(kLoopback) + texts.http : texts.http);
}

}  // namespace

std::optional<int> parse_command_line(int argc, char** argv, DaemonOptions& options) {
    CLI::App app("Aggregates a federation of dither-nodes over TCP and TLS, and survives what happens to it.");
    app.footer(
        "Examples:\n"
        "  dither-aggregator job.toml --listen 0.0.0.0:7443 --state /var/lib/dither/run \\\n"
        "      --tls-cert aggregator.crt --tls-key aggregator.key --tls-ca ca.crt --http 8080\n"
        "  dither-aggregator job.toml --listen 127.0.0.1:7000 --state run --insecure-loopback\n"
        "  curl http://127.0.0.1:8080/status\n"
        "\nSignals: SIGTERM and SIGINT stop it after the journal is on the disk, and the next start continues the "
        "round;\n"
        "SIGHUP reads certificates, revocations and allowed ids again.\n"
        "Exit codes: 0 the run is complete, 1 failed while running, 2 bad usage or input, 130/143 stopped by a "
        "signal.");
    Texts texts;
    declare(app, options, texts);
    bool help_job = false;
    app.add_flag("--help-job", help_job, "List every key of the job file with its default and range");
    app.set_version_flag("--version", fmt::format("dither-aggregator {}", version()));
    try {
        for (int i = 1; i < argc; ++i)
            if (std::string_view(argv[i]) == "--help-job") {
                std::cout << describe_options();
                return 0;
            }
        app.parse(argc, argv);
        convert(texts, options);
    } catch (const CLI::ParseError& error) {
        app.exit(error, std::cout, std::cerr);
        return error.get_exit_code() == 0 ? 0 : kBadUsage;
    } catch (const InputError& error) {
        std::cerr << "dither-aggregator: " << error.what() << '\n';
        return kBadUsage;
    }
    return std::nullopt;
}

}  // namespace dither
