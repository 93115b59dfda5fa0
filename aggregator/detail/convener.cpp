#include "aggregator/detail/convener.hpp"

#include <algorithm>
#include <map>
#include <utility>

namespace dither {

namespace {

constexpr SimulatedTime kEndOfTime{SimulatedTime::period::den * 1'000'000'000'000LL};  // sums stay within 64 bits

}  // namespace

Convener::Convener(const Job& job, ClientSampler::SamplesOf samples_of, const Broadcast& broadcast, RunState& state)
    : broadcast_(broadcast), state_(state), schedule_(make_schedule(job, std::move(samples_of))) {}

void Convener::resume() {
    time_ = std::chrono::round<SimulatedTime>(std::chrono::duration<double>(state_.totals.simulated_seconds));
}

const Attendance& Convener::convene(std::uint32_t round) {
    attendance_ = schedule_->attend(round, time_, [this](std::uint32_t client) { return load_of(client); });
    return attendance_;
}

LinkLoad Convener::load_of(std::uint32_t client) const {
    const double payload = state_.controller.links().expected_update_bytes();
    return {.download = static_cast<double>(broadcast_.download_bytes(client)),
            .upload = broadcast_.upload_bytes(payload)};
}

double Convener::close(RoundOutcome& outcome) {
    if (is_timed())
        count_links(outcome);
    const SimulatedTime began = std::exchange(time_, std::min(attendance_.ends, kEndOfTime));
    return std::chrono::duration<double>(time_ - began).count();
}

double Convener::seconds() const {
    return std::chrono::duration<double>(time_).count();
}

void Convener::count_links(RoundOutcome& outcome) {
    const bool is_handed_out = outcome.sent_models > 0;  // else the round was given up before anybody trained
    std::map<std::uint32_t, std::uint64_t> carried;
    for (const std::uint32_t client : attendance_.asked) {
        const std::uint64_t bytes = carried[client] = broadcast_.download_bytes(client);
        if (is_handed_out && std::ranges::binary_search(attendance_.trained, client))
            continue;
        outcome.bytes_down += bytes;
        ++outcome.sent_models;
        outcome.whole_models += broadcast_.base_for(state_.counted[client]) == 0 ? 1 : 0;
    }
    for (const WeightedReport& report : outcome.reports)
        carried[report.client] +=
            static_cast<std::uint64_t>(broadcast_.upload_bytes(static_cast<double>(report.payload_bytes)));
    for (auto& [client, bytes] : carried)
        bytes += state_.device_bytes[client];
    state_.device_bytes.put({carried.begin(), carried.end()});
}

}  // namespace dither
