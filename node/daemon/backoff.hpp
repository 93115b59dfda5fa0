// How long to wait before the next attempt to reach the aggregator.
//
//     delay <- uniform in [500 ms, min(60 s, 3 * delay)]
//
// "Decorrelated jitter" (Brooker, "Exponential backoff and jitter", 2015): many nodes that lost one aggregator at the
// same moment do not come back at the same moment.
#pragma once

#include "core/rng.hpp"

#include <chrono>
#include <cstdint>

namespace dither {

/// A pure function of its seed and the calls made. Not thread-safe.
class Backoff {
public:
    static constexpr std::chrono::milliseconds kLeast{500};
    static constexpr std::chrono::milliseconds kMost{60'000};

    explicit Backoff(std::uint32_t seed) : stream_({.seed = seed, .purpose = Purpose::backoff}) {}

    /// After a failure that may pass soon.
    std::chrono::milliseconds next();
    /// After a refusal that only people can mend: 45 to 60 s.
    std::chrono::milliseconds longest();
    /// The aggregator was reached: the next failure is a first one again.
    void reset() { last_ = kLeast; }

private:
    std::chrono::milliseconds between(std::chrono::milliseconds least, std::chrono::milliseconds most);

    Stream stream_;
    std::chrono::milliseconds last_ = kLeast;
};

}  // namespace dither
