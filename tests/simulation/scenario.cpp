#include "tests/simulation/scenario.hpp"

#include "core/rng.hpp"
#include "tests/simulation/workload.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <string_view>

#include <fmt/format.h>

namespace dither::simulation {

namespace {

using namespace std::chrono_literals;
using Kind = Disaster::Kind;

constexpr std::array<std::string_view, 8> kNames{
    "node crash", "cut", "isolation", "partition", "aggregator crash", "aggregator stop", "disk full", "failed sync"};

/// Draws for one scenario.
class Draw {
public:
    explicit Draw(std::uint32_t seed) : stream_({.seed = seed, .purpose = Purpose::test, .lane = 20}) {}

    bool one_in(std::uint32_t n) { return stream_.below(n) == 0; }
    std::uint32_t below(std::uint32_t bound) { return stream_.below(bound); }
    Clock::duration up_to(Clock::duration longest) {
        return std::chrono::microseconds(stream_.below(static_cast<std::uint32_t>(longest / 1us)));
    }
    /// 0 as often as not; else at most `most`, small ones as likely as large ones.
    double rate(double most) { return one_in(2) ? 0 : most / static_cast<double>(1U << stream_.below(6)); }

private:
    Stream stream_;
};

Disaster disaster(Draw& draw, Clock::duration faults_end) {
    Disaster disaster;
    disaster.kind = static_cast<Kind>(draw.below(kNames.size()));
    disaster.at = draw.up_to(faults_end);
    disaster.length = draw.one_in(3) ? draw.up_to(100s) : draw.up_to(5s);
    disaster.length = std::min(disaster.length, faults_end - disaster.at);
    disaster.node = draw.below(8);
    return disaster;
}

LinkFaults link_faults(Draw& draw) {
    return {.loss = draw.rate(0.2),
            .corruption = draw.rate(0.1),
            .duplication = draw.rate(0.3),
            .reordering = draw.rate(0.3),
            .replay = draw.rate(0.2)};
}

Company company_of(Draw& draw, bool lenient) {
    Company company{.stranger = draw.one_in(4), .twin = draw.one_in(8)};
    if (lenient) {
        company.deserter = draw.one_in(4);
        company.lies = draw.rate(0.3);
        company.failures = draw.rate(0.2);
        company.straggling = draw.rate(0.3);
    }
    return company;
}

std::string seconds(Clock::duration length) {
    return fmt::format("{:.3f}s", std::chrono::duration<double>(length).count());
}

}  // namespace

Scenario Scenario::calm(std::uint32_t workload, bool lenient) {
    Scenario scenario;
    scenario.workload = workload;
    scenario.lenient = lenient;
    scenario.waits_for_all = true;
    scenario.most_delay = 2ms;
    return scenario;
}

Scenario Scenario::drawn(std::uint32_t seed) {
    Draw draw(seed);
    Scenario scenario;
    scenario.seed = seed;
    scenario.workload = draw.below(kWorkloads);
    scenario.lenient = draw.one_in(3);
    scenario.assigned = draw.one_in(3);
    scenario.proven = draw.one_in(2);
    scenario.waits_for_all = draw.one_in(2);
    scenario.most_delay = draw.one_in(4) ? 3000ms : 100ms;
    scenario.faults_end = 2s + draw.up_to(draw.one_in(3) ? 200s : 20s);
    if (!draw.one_in(4))
        scenario.link = link_faults(draw);
    for (std::uint32_t left = draw.below(12); left > 0; --left)
        scenario.disasters.push_back(disaster(draw, scenario.faults_end));
    std::ranges::sort(scenario.disasters, {}, &Disaster::at);
    scenario.crash_chance = draw.rate(0.9);
    scenario.crash_within = 1U << (3 + draw.below(7));
    scenario.power_loss = draw.one_in(3) ? 0 : 0.8;
    scenario.company = company_of(draw, scenario.lenient);
    if (scenario.company.deserter)
        scenario.waits_for_all = scenario.company.twin = false;
    return scenario;
}

std::string Scenario::describe() const {
    std::string text = fmt::format(
        "seed {}: workload {}{}, {}, {}\n  delays up to {}, faults end after {}; a frame: loss {:.3f}, corruption "
        "{:.3f}, "
        "duplication {:.3f}, reordering {:.3f}, replay {:.3f}\n  an aggregator dies within {} calls by chance {:.3f}, "
        "without power by {:.2f}; stranger {}, twin {}, deserter {}, lies {:.3f}, failures {:.3f}, straggling {:.3f}\n",
        seed, workload, lenient ? " (lenient)" : "", assigned ? "assigned clients" : "fixed clients",
        proven ? "proven identities" : "unproven identities", seconds(most_delay), seconds(faults_end), link.loss,
        link.corruption, link.duplication, link.reordering, link.replay, crash_within, crash_chance, power_loss,
        company.stranger, company.twin, company.deserter, company.lies, company.failures, company.straggling);
    for (const Disaster& one : disasters)
        text += fmt::format("  {:>10}: {} (node {}, for {})\n", seconds(one.at),
                            kNames[static_cast<std::size_t>(one.kind)], one.node, seconds(one.length));
    return text;
}

}  // namespace dither::simulation
