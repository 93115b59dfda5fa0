#include "core/precision/energy.hpp"

#include "core/error.hpp"
#include "core/precision/plan.hpp"

#include <algorithm>
#include <array>

namespace dither {
namespace {

constexpr double kMultiplyInt8 = 0.2;
constexpr double kAddInt32 = 0.1;
constexpr double kMultiplyFp16 = 1.1;
constexpr double kMultiplyFp32 = 3.7;
constexpr double kAddFp32 = 0.9;

struct Memory {
    double bytes;    ///< that it holds
    double read_pj;  ///< of 64 bits
};
constexpr std::array kMemories{Memory{8.0 * 1024, 10}, Memory{32.0 * 1024, 20}, Memory{1024.0 * 1024, 100}};
constexpr double kReadDram = (1300 + 2600) / 2.0;

void check(const OperandFormat& operand) {
    require((operand.bits >= 2 && operand.bits <= 16) || operand.bits == kFullBits,
            "an operand of {} bits, expected 2 .. 16 or 32", operand.bits);
}

}  // namespace

double mac_energy_pj(const OperandFormat& weights, const OperandFormat& activations) {
    check(weights);
    check(activations);
    if (weights.bits == kFullBits || activations.bits == kFullBits)
        return kMultiplyFp32 + kAddFp32;
    if (!weights.integer || !activations.integer)
        return kMultiplyFp16 + kAddFp32;
    return kMultiplyInt8 * weights.bits * activations.bits / 64 + kAddInt32;
}

double read_energy_pj(double bytes) {
    const auto memory = std::ranges::find_if(kMemories, [bytes](const Memory& m) { return bytes <= m.bytes; });
    return bytes / 8 * (memory == kMemories.end() ? kReadDram : memory->read_pj);
}

}  // namespace dither
