#include "core/precision/plan.hpp"

#include "core/error.hpp"

#include <algorithm>

namespace dither {

std::string_view name_of(Phase phase) {
    switch (phase) {
        case Phase::forward:
            return "forward";
        case Phase::backward:
            return "backward";
        case Phase::optimizer:
            return "optimizer";
        case Phase::uplink:
            return "uplink";
        case Phase::downlink:
            return "downlink";
    }
    throw PreconditionError(fmt::format("unknown phase {}", static_cast<int>(phase)));
}

int& LayerBits::operator[](Phase phase) {
    switch (phase) {
        case Phase::forward:
            return forward;
        case Phase::backward:
            return backward;
        case Phase::optimizer:
            return optimizer;
        case Phase::uplink:
            return uplink;
        case Phase::downlink:
            return downlink;
    }
    throw PreconditionError(fmt::format("unknown phase {}", static_cast<int>(phase)));
}

int LayerBits::operator[](Phase phase) const {
    LayerBits copy = *this;
    return copy[phase];
}

PrecisionPlan PrecisionPlan::uniform(std::size_t layers, int bits) {
    return {std::vector<LayerBits>(layers, LayerBits{bits, bits, bits, bits, bits})};
}

Levels::Levels(std::vector<int> bits) : bits_(std::move(bits)) {
    if (bits_.empty() || bits_.back() != kFullBits)
        throw InputError(fmt::format("precision levels [{}]: the last must be {}", fmt::join(bits_, ", "), kFullBits));
    for (std::size_t i = 0; i + 1 < bits_.size(); ++i)
        if (bits_[i] < 2 || bits_[i] > 16 || bits_[i] >= bits_[i + 1])
            throw InputError(fmt::format("precision levels [{}]: expected ascending widths in 2..16 before the {}",
                                         fmt::join(bits_, ", "), kFullBits));
}

int Levels::raise(double bits) const {
    const auto level = std::find_if(bits_.begin(), bits_.end(), [&](int candidate) { return bits <= candidate; });
    return level == bits_.end() ? kFullBits : *level;
}

bool Levels::contains(int bits) const {
    return std::binary_search(bits_.begin(), bits_.end(), bits);
}

}  // namespace dither
