// One attack on a dither-aggregator, for tests/chaos/hostile.sh. Ends 0 if the aggregator did what it should.
#include "tests/chaos/attacks.hpp"

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <array>
#include <cstdio>
#include <exception>

namespace dither::hostile {
namespace {

struct Options {
    std::string attack;
    std::string aggregator;
    Setting setting;
    unsigned times = 1;
};

const auto kAll = std::array{attacks_of_strangers(), attacks_of_members(), attacks_of_liars()};

std::string list() {
    std::string text = "Attacks:\n";
    for (const auto attacks : kAll)
        for (const Attack& attack : attacks)
            text += fmt::format("  {:<20} {}\n", attack.name, attack.what);
    return text;
}

const Attack& find(const std::string& name) {
    for (const auto attacks : kAll)
        for (const Attack& attack : attacks)
            if (attack.name == name)
                return attack;
    throw CLI::ValidationError(name + " is no attack");
}

int run(int argc, char** argv) {
    Options options;
    CLI::App app("Attacks a dither-aggregator that listens on loopback.");
    app.footer(list());
    app.add_option("ATTACK", options.attack)->required();
    app.add_option("--aggregator", options.aggregator, "Where it listens")->required()->type_name("ADDRESS:PORT");
    app.add_option("--certificates", options.setting.certificates, "Folder of NAME.crt and NAME.key")->required();
    app.add_option("--as", options.setting.as, "The certificate that it shows (default: none)")->type_name("NAME");
    app.add_option("--client", options.setting.client, "The client that it speaks for")->capture_default_str();
    app.add_option("--data", options.setting.data, "What liars train on (CSV)");
    app.add_option("--at-once", options.setting.at_once, "Connections that say nothing")->capture_default_str();
    app.add_option("--times", options.times, "How often it attacks")->capture_default_str();
    try {
        app.parse(argc, argv);
        const Attack& attack = find(options.attack);
        options.setting.aggregator = parse_endpoint(options.aggregator);
        for (unsigned i = 0; i < options.times; ++i)
            attack.run(options.setting);
    } catch (const CLI::ParseError& error) {
        return app.exit(error);
    }
    return 0;
}

}  // namespace
}  // namespace dither::hostile

int main(int argc, char** argv) {
    try {
        return dither::hostile::run(argc, argv);
    } catch (const std::exception& error) {
        fmt::print(stderr, "dither-hostile: {}\n", error.what());
        return 1;
    }
}
