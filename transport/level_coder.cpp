#include "transport/detail/level_coder.hpp"

#include "core/error.hpp"
#include "core/little_endian.hpp"
#include "core/vector_math.hpp"
#include "transport/detail/bit_stream.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace dither::detail {
namespace {

/// Positions end at sqrt(kReach + 2 log(4) bits) standard deviations: what is cut off shrinks as the error does.
constexpr double kReach = 8.5;
constexpr std::int32_t kMostMagnitudes = 64;  // of levels that have a symbol of their own
constexpr std::uint32_t kLowestState = 1U << 16;
constexpr unsigned kWordBits = 16;

struct NextStates {
    std::array<std::array<std::uint8_t, 2>, kTrellisStates> of{};
    std::array<std::uint8_t, kTrellisStates> parity{};
};

constexpr NextStates make_next_states() {
    NextStates next;
    for (unsigned state = 0; state < kTrellisStates; ++state) {
        next.parity[state] = static_cast<std::uint8_t>(trellis_parity(state));
        for (const unsigned half : {0U, 1U})
            next.of[state][half] = static_cast<std::uint8_t>(trellis_next(state, half));
    }
    return next;
}

constexpr NextStates kNext = make_next_states();

/// exp(-beta n^2) for n = 0, 1, ..., count - 1.
std::vector<double> gaussian_weights(double beta, std::size_t count) {
    std::vector<float> weights(count);
    for (std::size_t n = 0; n < count; ++n)
        weights[n] = static_cast<float>(-beta * static_cast<double>(n * n));
    exponentials(weights, weights);
    return {weights.begin(), weights.end()};
}

double total_of(std::span<const double> weights, std::size_t parity) {
    double total = 0;
    for (std::size_t n = parity; n < weights.size(); n += 2)
        total += n == 0 ? weights[n] : 2 * weights[n];
    return total;
}

/// The levels of a parity, numbered: ..., -1, 0, 1, ... for -2, 0, 2 or for -3, -1, 1.
constexpr std::int32_t number_of(std::int32_t level) {
    return level >> 1;
}

}  // namespace

double power_of_four(double exponent) {
    const auto logarithm = static_cast<float>(2 * std::numbers::ln2 * exponent);
    float power = 0;
    exponentials(std::span(&logarithm, 1), std::span(&power, 1));
    return power;
}

LevelCoder::LevelCoder(unsigned grade) {
    require(grade >= kLowestGrade && grade <= kHighestGrade, "a grade of {}", grade);
    const double rate = static_cast<double>(grade) / kGradesPerBit;
    const double beta = kFineness * power_of_four(-rate);
    const double reach = std::sqrt((kReach + 4 * std::numbers::ln2 * rate) / (2 * beta));
    limit_ = static_cast<std::int32_t>(std::ceil(reach));
    while (limit_ >> raw_bits_ > kMostMagnitudes)
        ++raw_bits_;
    const std::vector<double> weights = gaussian_weights(beta, static_cast<std::size_t>(limit_) + 2);
    for (unsigned parity = 0; parity < 2; ++parity)
        fill(tables_[parity], parity, weights);
    odd_information_ =
        std::numbers::ln2 * (binary_logarithm(total_of(weights, 1)) - binary_logarithm(total_of(weights, 0)));
}

/// Every symbol gets its share of kTotal, at least 1; what rounding leaves goes to the most frequent one.
void LevelCoder::fill(Table& table, unsigned parity, std::span<const double> weights) {
    const auto largest = static_cast<std::int32_t>(weights.size()) - 1;
    const std::int32_t top = largest - ((largest ^ static_cast<std::int32_t>(parity)) & 1);
    table.first = number_of(-top) >> raw_bits_;
    std::vector<double> sums(static_cast<std::size_t>((number_of(top) >> raw_bits_) - table.first + 1));
    for (std::int32_t n = -top; n <= top; n += 2)
        sums[static_cast<std::size_t>((number_of(n) >> raw_bits_) - table.first)] +=
            weights[static_cast<std::size_t>(std::abs(n))];
    const double total = total_of(weights, parity);
    table.symbols.resize(sums.size());
    std::uint32_t used = 0;
    for (std::size_t i = 0; i < sums.size(); ++i) {
        const auto share = static_cast<std::uint32_t>(sums[i] / total * kTotal + 0.5);
        table.symbols[i].frequency = static_cast<std::uint16_t>(std::max(share, 1U));
        used += table.symbols[i].frequency;
    }
    auto& most = table.symbols[static_cast<std::size_t>(std::max_element(sums.begin(), sums.end()) - sums.begin())];
    most.frequency = static_cast<std::uint16_t>(most.frequency + kTotal - used);
    std::uint32_t start = 0;
    for (std::size_t i = 0; i < table.symbols.size(); ++i) {
        table.symbols[i].start = static_cast<std::uint16_t>(start);
        std::fill_n(table.symbol_at.begin() + start, table.symbols[i].frequency, static_cast<std::uint8_t>(i));
        start += table.symbols[i].frequency;
    }
}

void LevelCoder::encode(std::span<const std::int16_t> levels, std::vector<std::byte>& out) const {
    if (raw_bits_ > 0) {
        std::vector<std::uint32_t> raw(levels.size());
        std::transform(levels.begin(), levels.end(), raw.begin(), [mask = (1U << raw_bits_) - 1](std::int16_t level) {
            return static_cast<std::uint32_t>(number_of(level)) & mask;
        });
        pack_bits(raw, raw_bits_, out);
    }
    encode_symbols(levels, out);
}

/// The last level first, as a reader takes them from the front.
void LevelCoder::encode_symbols(std::span<const std::int16_t> levels, std::vector<std::byte>& out) const {
    std::vector<std::uint16_t> words;
    words.reserve(levels.size() / 2);
    std::uint32_t state = kLowestState;
    for (std::size_t i = levels.size(); i-- > 0;) {
        const Table& table = tables_[static_cast<unsigned>(levels[i]) & 1U];
        const Symbol symbol =
            table.symbols[static_cast<std::size_t>((number_of(levels[i]) >> raw_bits_) - table.first)];
        const std::uint32_t frequency = symbol.frequency;
        if (state >> (32 - kPrecision) >= frequency) {
            words.push_back(static_cast<std::uint16_t>(state));
            state >>= kWordBits;
        }
        state = (state / frequency << kPrecision) + state % frequency + symbol.start;
    }
    std::size_t at = out.size();
    out.resize(at + sizeof state + 2 * words.size());
    store_little(state, out.data() + at);
    at += sizeof state;
    for (std::size_t i = words.size(); i-- > 0; at += 2)
        store_little(words[i], out.data() + at);
}

std::size_t LevelCoder::decode(std::span<const std::byte> in, std::span<float> levels) const {
    const std::size_t raw_bytes = packed_bytes(levels.size(), raw_bits_);
    std::size_t at = raw_bytes + sizeof(std::uint32_t);
    if (in.size() < at)
        return 0;
    BitReader raw(in.first(raw_bytes), raw_bits_);
    auto state = load_little<std::uint32_t>(in.data() + raw_bytes);
    unsigned place = 0;  // in the trellis
    for (float& level : levels) {
        if (state < kLowestState)
            return 0;
        const unsigned parity = kNext.parity[place];
        const Table& table = tables_[parity];
        const std::uint32_t slot = state % kTotal;
        const std::uint8_t index = table.symbol_at[slot];
        const Symbol symbol = table.symbols[index];
        state = symbol.frequency * (state >> kPrecision) + slot - symbol.start;
        if (state < kLowestState && at + 2 <= in.size()) {
            state = state << kWordBits | load_little<std::uint16_t>(in.data() + at);
            at += 2;
        }
        std::int32_t number = table.first + index;
        if (raw_bits_ > 0) {
            std::uint32_t low = 0;
            raw.next(std::span(&low, 1));
            number = static_cast<std::int32_t>(static_cast<std::uint32_t>(number) << raw_bits_ | low);
        }
        level = static_cast<float>(2 * number + static_cast<std::int32_t>(parity));
        place = kNext.of[place][static_cast<unsigned>(number) & 1U];
    }
    return state == kLowestState && raw.only_padding_left() ? at : 0;
}

}  // namespace dither::detail
