// trellis: a random rotation, then a trellis whose levels are chosen for the least error at the bits that an entropy
// coder will take for them, then one scale a group that makes the result unbiased. detail/rotated_layer.hpp has the
// equations of rotation and scale, detail/trellis.hpp and detail/level_coder.hpp those of the quantizer.
//
// The cost of level n for a coordinate u of mean square 1 is (u - n step)^2 + lambda * bits(n). With lambda and the
// coder's probabilities at their values on the rate-distortion curve of a Gaussian, of which D = 4^-R is the
// distortion,
//
//     cost ~ (g u - n)^2 + [n odd] * log(Z1 / Z0) / kFineness,        g = sqrt((4^R - 1) / (2 kFineness))
//
// since the bits of a level grow with its square: a plain search for the nearest path does it. R alone says everything.
#include "core/config.hpp"
#include "core/error.hpp"
#include "core/little_endian.hpp"
#include "core/simd.hpp"
#include "core/vector_math.hpp"
#include "transport/detail/codecs.hpp"
#include "transport/detail/fixed_point.hpp"
#include "transport/detail/level_coder.hpp"
#include "transport/detail/rate_allocation.hpp"
#include "transport/detail/rotated_layer.hpp"
#include "transport/detail/trellis.hpp"
#include "transport/detail/value_groups.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <vector>

namespace dither::detail {
namespace {

constexpr std::size_t kLanes = 8;
/// Of a group are coded, or all: the scale of fewer would now and then be huge.
constexpr std::size_t kFewestSent = 256;
/// A group has as many coordinates, and as take so many bits: its header takes 80.
constexpr std::size_t kFewestGrouped = 256;
constexpr double kGroupBits = 256;
constexpr std::size_t kScaleBytes = sizeof(float);
constexpr std::size_t kHeaderBytes = kScaleBytes + 2;
constexpr std::size_t kStateBytes = sizeof(std::uint32_t);
constexpr unsigned kShares = 256;
constexpr int kMostAttempts = 8;
/// Bits: about the largest standard deviation of a payload's length, over the square root of its levels.
constexpr double kSpread = 1.1;
/// Of the bits that should be right after too many.
constexpr double kAgain = 0.9995;

/// A point of the trade between bits and error.
struct CurvePoint {
    double bits;  ///< that a coordinate takes
    double rate;  ///< R: those of a Gaussian's rate-distortion curve
};

/// Measured on 2^20 normal numbers; linear in between.
constexpr auto kCurve = std::to_array<CurvePoint>({{0.5009, 0.40625},
                                                   {0.5431, 0.45},
                                                   {0.5723, 0.5},
                                                   {0.6505, 0.6},
                                                   {0.7342, 0.7},
                                                   {0.8228, 0.8},
                                                   {0.9181, 0.9},
                                                   {1.0143, 1.0},
                                                   {1.2596, 1.25},
                                                   {1.5085, 1.5},
                                                   {2.0052, 2.0},
                                                   {3.0030, 3.0},
                                                   {8.0040, 8.0}});

/// Below it fewer coordinates are sent, at this rate.
constexpr double kLowestRate = kCurve.front().bits;

double rate_of_bits(double bits) {
    const auto above =
        std::find_if(kCurve.begin() + 1, kCurve.end() - 1, [bits](const auto& p) { return p.bits >= bits; });
    const CurvePoint& a = *(above - 1);
    const double rate = a.rate + (bits - a.bits) * (above->rate - a.rate) / (above->bits - a.bits);
    return std::clamp(rate, kCurve.front().rate, kCurve.back().rate);
}

/// How a group is coded.
struct Settings {
    std::uint8_t grade = kLowestGrade;
    std::uint8_t share = kShares - 1;  ///< (share + 1) / kShares of the coordinates are sent
    double rate = 0;                   ///< R; only the encoder knows it
};

std::size_t sent_of(std::size_t count, std::uint8_t share) {
    return std::min(count, std::max(kFewestSent, (count * (share + 1U) + kShares - 1) / kShares));
}

/// Bits of the levels of that many coordinates, or of the fewest that are sent of them.
double fewest_bits(std::size_t count) {
    return kLowestRate * static_cast<double>(std::min(count, kFewestSent));
}
/// About the largest standard deviation of the bits of so many levels.
double deviation_of(std::size_t count) {
    return kSpread * std::sqrt(static_cast<double>(count));
}
/// What fewest_bits() hardly ever comes to more than.
double reserved_bits(std::size_t count) {
    return fewest_bits(count) + deviation_of(std::min(count, kFewestSent));
}

/// `bits`: a coordinate.
Settings settings_for(std::size_t count, double bits) {
    Settings settings;
    if (bits < kLowestRate)
        settings.share = static_cast<std::uint8_t>(std::max(std::ceil(bits / kLowestRate * kShares) - 1, 0.0));
    const auto sent = static_cast<double>(sent_of(count, settings.share));
    settings.rate = rate_of_bits(bits * static_cast<double>(count) / sent);
    settings.grade = static_cast<std::uint8_t>(std::min(settings.rate * kGradesPerBit + 0.5, double{kHighestGrade}));
    return settings;
}

/// positions[i] = z[i] * gain, to the nearest integer; magnitudes up to `limit`.
DITHER_CLONES void place(const float* z, std::size_t count, float gain, float limit, std::int16_t* positions) {
    for (std::size_t i = 0; i < count; ++i) {
        const float y = z[i] * gain;
        const float above = y < -limit ? -limit : y;
        const float within = above > limit ? limit : above;
        positions[i] = static_cast<std::int16_t>(static_cast<std::int32_t>(within + (within < 0 ? -0.5F : 0.5F)));
    }
}

/// <gain * z, levels>, over interleaved lanes.
DITHER_CLONES double product_of(const float* z, const std::int16_t* levels, std::size_t count, float gain) {
    std::array<double, kLanes> sums{};
    std::size_t i = 0;
    for (; i + kLanes <= count; i += kLanes)
        for (std::size_t lane = 0; lane < kLanes; ++lane)
            sums[lane] += static_cast<double>(z[i + lane] * gain) * levels[i + lane];
    for (std::size_t lane = 0; i < count; ++i, ++lane)
        sums[lane] += static_cast<double>(z[i] * gain) * levels[i];
    double total = 0;
    for (const double sum : sums)
        total += sum;
    return total;
}

double squares_of(std::span<const std::int16_t> levels) {
    double sum = 0;
    for (const double level : levels)
        sum += level * level;
    return sum;
}

void search_levels(std::span<const float> z, float gain, const Settings& settings, const LevelCoder& coder,
                   std::span<std::int16_t> levels) {
    constexpr auto kResolution = static_cast<float>(TrellisSearch::kResolution);
    const double spread = std::sqrt((power_of_four(settings.rate) - 1) / (2 * kFineness));
    const double penalty =
        coder.odd_information() / kFineness * TrellisSearch::kResolution * TrellisSearch::kResolution;
    TrellisSearch search(static_cast<std::int32_t>(std::floor(penalty + 0.5)));
    std::array<std::int16_t, TrellisSearch::kBlock> positions;
    for (std::size_t done = 0; done < z.size(); done += TrellisSearch::kBlock) {
        const std::size_t count = std::min(TrellisSearch::kBlock, z.size() - done);
        place(z.data() + done, count, gain * static_cast<float>(spread) * kResolution,
              static_cast<float>(coder.limit()) * kResolution - 1, positions.data());
        search.next(std::span(positions).first(count), levels.subspan(done, count));
    }
}

/// Bits of a group's levels.
struct Budget {
    double target = 0;  ///< about so many
    double most = 0;    ///< never more, if that can be
};

class TrellisCodec final : public FixedPointCodec {
public:
    TrellisCodec(const Schema& schema, double rate) : FixedPointCodec(schema), rate_(rate) {}

    std::string_view name() const override { return "trellis"; }
    bool is_biased() const override { return false; }

    void encode(std::span<const float> values, const Terms& terms, std::vector<std::byte>& out) const override {
        check_values(values);
        const ValueGroups groups = groups_of(terms);
        std::vector<std::vector<std::byte>> sections(groups.all().size());
        encode_sections(values, groups, terms.key, sections);
        out.clear();
        for (const std::vector<std::byte>& section : sections)
            out.insert(out.end(), section.begin(), section.end());
    }

private:
    ValueGroups groups_of(const Terms& terms) const {
        const auto fewest = static_cast<std::size_t>(kGroupBits / rate_);
        return {schema(), terms.expectation, std::max(fewest, kFewestGrouped)};
    }

    /// Small groups first, each with its share of the bits that are left, and none with what the others need at least.
    void encode_sections(std::span<const float> values, const ValueGroups& groups, const StreamKey& key,
                         std::vector<std::vector<std::byte>>& sections) const {
        std::vector<float> buffer(largest_layer(schema()));
        const auto values_of = [&](std::size_t i) {
            const auto x = std::span(buffer).first(groups.all()[i].count);
            groups.gather(groups.all()[i], values, x);
            return x;
        };
        std::vector<LayerPower> powers(sections.size());
        double left = rate_ * static_cast<double>(schema().parameters());  // bits
        for (std::size_t i = 0; i < sections.size(); ++i)
            left -= 8 * static_cast<double>(encode_fixed(values_of(i), powers[i], sections[i]));
        const std::vector<std::size_t> coded = coded_by_size(powers);
        const std::vector<double> rates = allocate_rates(powers, std::max(left, 0.0), kHighestRate);
        std::vector<double> plans(sections.size());  // bits of levels
        double planned = 0;
        double reserved = 0;  // for the groups still to come
        for (const std::size_t i : coded) {
            plans[i] = std::max(rates[i] * static_cast<double>(powers[i].count), fewest_bits(powers[i].count));
            planned += plans[i];
            reserved += reserved_bits(powers[i].count);
        }
        RotationFrame frame(buffer.size(), key);
        for (const std::size_t i : coded) {
            reserved -= reserved_bits(powers[i].count);
            const double most = left - reserved;
            const Budget budget{std::min(left * plans[i] / planned, most - deviation_of(powers[i].count)), most};
            encode_levels(frame.rotate(values_of(i), groups.all()[i].lane), budget, sections[i]);
            left -= 8 * (static_cast<double>(sections[i].size()) - kHeaderBytes - kStateBytes);
            planned -= plans[i];
        }
    }

    /// The groups that need levels.
    static std::vector<std::size_t> coded_by_size(std::span<const LayerPower> powers) {
        std::vector<std::size_t> coded;
        for (std::size_t i = 0; i < powers.size(); ++i)
            if (powers[i].squared_norm > 0)
                coded.push_back(i);
        std::stable_sort(coded.begin(), coded.end(),
                         [&](std::size_t a, std::size_t b) { return powers[a].count < powers[b].count; });
        return coded;
    }

    /// What needs no levels: the whole section of a tiny layer and of one of zeros. Returns the bytes that the layer
    /// takes apart from its levels; `power` is that of the levels.
    static std::size_t encode_fixed(std::span<const float> x, LayerPower& power, std::vector<std::byte>& section) {
        const bool is_small = x.size() < kFewestRotated;
        power = {x.size(), is_small ? 0 : squared_norm(x)};
        if (power.squared_norm > 0)
            return kHeaderBytes + kStateBytes;
        if (is_small)
            append_as_is(x, section);
        else
            section.resize(kScaleBytes);
        return section.size();
    }

    /// Tries again with fewer bits if it took too many, and with more if all levels are 0.
    static void encode_levels(const RotatedLayer& rotated, const Budget& budget, std::vector<std::byte>& section) {
        const auto count = static_cast<double>(rotated.z.size());
        double bits = std::max(budget.target, 0.0) / count;
        for (int attempt = 1;; ++attempt) {
            const SentProducts products = try_levels(rotated, settings_for(rotated.z.size(), bits), section);
            const double used = 8 * static_cast<double>(section.size() - kHeaderBytes - kStateBytes);
            if (!(products.with_values > 0)) {
                bits = 2 * std::max(bits, fewest_bits(rotated.z.size()) / count);
            } else if (used <= std::max(budget.most, 0.0) || attempt >= kMostAttempts) {
                return finish(unbiased_scale(rotated, products), section);
            } else {
                bits *= std::max(budget.most, 0.0) / used * kAgain;
            }
        }
    }

    /// A reader takes nothing behind a scale of 0: values so tiny that fp32 has no other.
    static void finish(float scale, std::vector<std::byte>& section) {
        store_little(scale, section.data());
        if (scale == 0)
            section.resize(kScaleBytes);
    }

    /// Overwrites `section`, all but the scale.
    static SentProducts try_levels(const RotatedLayer& rotated, const Settings& settings,
                                   std::vector<std::byte>& section) {
        const auto sent = rotated.z.first(sent_of(rotated.z.size(), settings.share));
        std::vector<std::int16_t> levels(sent.size());
        const LevelCoder coder(settings.grade);
        search_levels(sent, rotated.gain, settings, coder, levels);
        section.resize(kHeaderBytes);
        section[kScaleBytes] = static_cast<std::byte>(settings.grade);
        section[kScaleBytes + 1] = static_cast<std::byte>(settings.share);
        coder.encode(levels, section);
        return {product_of(sent.data(), levels.data(), sent.size(), rotated.gain), squares_of(levels)};
    }

    void read(std::span<const std::byte> payload, const Terms& terms, FloatSink& sink) const override {
        const ValueGroups groups = groups_of(terms);
        std::vector<float> buffer(largest_layer(schema()));
        RotationFrame frame(buffer.size(), terms.key);
        for (const ValueGroup& group : groups.all()) {
            const std::span<float> values = frame.codes(group.count);
            if (values.size() < kFewestRotated)
                payload = payload.subspan(read_as_is(payload, group.layer, values));
            else
                payload = payload.subspan(read_rotated(payload, group, frame, values));
            const auto layer_values = std::span(buffer).first(schema().layers()[group.layer].count);
            groups.scatter(group, values, layer_values);
            if (group.ends_layer)
                sink.add(group.layer, 0, layer_values);
        }
        check(payload.empty(), schema().layer_count(), "{} bytes after the last layer", payload.size());
    }

    // The readers of a group return the bytes that it took.
    std::size_t read_as_is(std::span<const std::byte> bytes, std::size_t layer, std::span<float> values) const {
        check(bytes.size() >= sizeof(float) * values.size(), layer, "the payload ends");
        load_as_is(bytes, values);
        return sizeof(float) * values.size();
    }

    std::size_t read_rotated(std::span<const std::byte> bytes, const ValueGroup& group, RotationFrame& frame,
                             std::span<float> values) const {
        const std::size_t layer = group.layer;
        check(bytes.size() >= kScaleBytes, layer, "the payload ends");
        const auto scale = load_little<float>(bytes.data());
        check(std::isfinite(scale) && !std::signbit(scale), layer, "a scale of {}", scale);
        if (scale == 0) {
            std::fill(values.begin(), values.end(), 0.0F);
            return kScaleBytes;
        }
        const std::size_t size = read_levels(bytes, layer, values);
        frame.restore(values, group.lane, scale);
        return size;
    }

    std::size_t read_levels(std::span<const std::byte> bytes, std::size_t layer, std::span<float> levels) const {
        check(bytes.size() >= kHeaderBytes, layer, "the payload ends");
        const auto grade = std::to_integer<unsigned>(bytes[kScaleBytes]);
        check(grade >= kLowestGrade && grade <= kHighestGrade, layer, "a grade of {}", grade);
        const std::size_t sent = sent_of(levels.size(), std::to_integer<std::uint8_t>(bytes[kScaleBytes + 1]));
        const std::size_t size = LevelCoder(grade).decode(bytes.subspan(kHeaderBytes), levels.first(sent));
        check(size > 0, layer, "no levels of grade {}", grade);
        std::fill(levels.begin() + static_cast<std::ptrdiff_t>(sent), levels.end(), 0.0F);
        return kHeaderBytes + size;
    }

    double rate_;
};

}  // namespace

std::unique_ptr<Codec> make_trellis_codec(const CodecOptions& options, const Schema& schema) {
    return std::make_unique<TrellisCodec>(schema, rotated_rate(options, "trellis"));
}

}  // namespace dither::detail
