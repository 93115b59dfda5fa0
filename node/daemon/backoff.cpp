#include "node/daemon/backoff.hpp"

#include <algorithm>

namespace dither {

std::chrono::milliseconds Backoff::next() {
    last_ = between(kLeast, std::min(kMost, 3 * last_));
    return last_;
}

std::chrono::milliseconds Backoff::longest() {
    last_ = between(kMost * 3 / 4, kMost);
    return last_;
}

std::chrono::milliseconds Backoff::between(std::chrono::milliseconds least, std::chrono::milliseconds most) {
    const auto choices = static_cast<std::uint32_t>((most - least).count() + 1);
    return least + std::chrono::milliseconds(stream_.below(choices));
}

}  // namespace dither
