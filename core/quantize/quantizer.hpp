// Fake quantization: values are rounded to the codes of a b-bit integer and scaled back to floats, so that fp32
// arithmetic sees what integer arithmetic would. The reference for every real low-precision path.
//
//     q = clamp(round(x / scale) + zero_point, quant_min, quant_max)        x^ = scale * (q - zero_point)
//
// symmetric: zero_point 0, codes -(2^(b-1) - 1) .. 2^(b-1) - 1.   affine: codes 0 .. 2^b - 1, zero exactly
// representable. Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only
// inference", CVPR 2018. The gradient passes straight through inside the clip range and is 0 outside (Bengio, Leonard,
// Courville 2013).
#pragma once

#include "core/choice.hpp"
#include "core/quantize/float_format.hpp"
#include "core/rng.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace dither {

enum class Symmetry : std::uint8_t { symmetric, affine };
/// Which values share a scale. The values of a tensor are [rows, channels]: per_channel is one scale a column (the last
/// axis: output channels), per_sample one a row group (the outermost axis: a sample of the batch).
/// Where sums over samples must stay integers (QuantLayout::sums_samples), their symmetric scales differ by powers of
/// two, at most 2^kScaleSpan (shared-exponent blocks, as in Rouhani et al., "Microscaling data formats for deep
/// learning", 2023).
/// per_group is one scale for each `group_size` values that a product sums over: consecutive rows of a channel of the
/// weights, consecutive channels of a row of activations and gradients. group_size divides their number, or calls throw
/// PreconditionError; there are no codes.
enum class Granularity : std::uint8_t { per_tensor, per_channel, per_sample, per_group };
inline constexpr int kScaleSpan = 8;
enum class Rounding : std::uint8_t { nearest, stochastic };  ///< nearest: ties to even; stochastic: E[x^] = x
/// How the clip range is found: the exact extremes of this tensor, or their exponential moving average (0.9 old, 0.1
/// new; the first tensor sets it).
/// percentile: the values below and above which there is no more than the rest of this share of this tensor (nearest
/// rank; the extremes if that leaves 0 alone). mse: the extremes times 1, 0.975, ... or 0.2, whichever gives the least
/// squared error at nearest rounding (the widest of equal ones). Both are exact and, like minmax, blend nothing. The
/// others are trained with the weights (core/quantize/learned.hpp).
enum class Observer : std::uint8_t { minmax, moving_average_minmax, percentile, mse, lsq, lsq_plus, pact };
/// Whether a parameter of the layer says what the range is.
bool is_learned(Observer observer);

/// What multiplies values of up to 8 bits and bfloat16 values: the integer units on their codes and bfloat16 units,
/// where the processor has them, or fp32 on the rounded values.
enum class Execution : std::uint8_t { integer, simulated };

/// What 16 and 8 bits stand for. Every other width is an integer's.
enum class Format16 : std::uint8_t { bf16, fp16, int16 };
enum class Format8 : std::uint8_t { int8, e4m3, e5m2 };

struct QuantizerOptions {
    Symmetry symmetry = Symmetry::symmetric;
    Granularity granularity = Granularity::per_tensor;
    Rounding rounding = Rounding::nearest;
    Observer observer = Observer::minmax;
    Format16 format16 = Format16::bf16;
    Format8 format8 = Format8::int8;
    int bits = 0;               ///< wherever the plan is below 32 bits; 0: the plan's
    int group_size = 32;        ///< per_group
    bool power_of_two = false;  ///< integer scales are raised to the next power of two (MX: Rouhani et al. 2023)
    double percentile = 99.9;   ///< percentile: share in percent, 50 < p <= 100

    bool operator==(const QuantizerOptions&) const = default;
};

/// The floating-point format that `bits` stand for; none where they are an integer's, or 32.
std::optional<FloatFormat> float_format(const QuantizerOptions& options, int bits);
/// Whether `bits` are an integer's: neither a floating-point format nor 32.
bool is_integer_width(const QuantizerOptions& options, int bits);

/// "per_channel_symmetric", "per_tensor_affine", ...: the job file's name of a granularity and a symmetry.
std::string_view scheme_name(const QuantizerOptions& options);
/// The inverse; false if the name is unknown.
bool set_scheme(QuantizerOptions& options, std::string_view scheme);
std::vector<Choice> scheme_choices();
/// In the order of the enumerations.
std::vector<Choice> rounding_choices();
std::vector<Choice> observer_choices();
std::vector<Choice> execution_choices();
std::vector<Choice> format16_choices();
std::vector<Choice> format8_choices();

struct ScaleZero {
    float scale = 1;
    std::int32_t zero_point = 0;

    bool operator==(const ScaleZero&) const = default;
};

/// The scale (and zero point) whose codes cover [low, high] and 0. An empty range gives scale 1.
ScaleZero choose_scale(float low, float high, int bits, Symmetry symmetry);

/// Layout of the values: `rows` x `columns`; columns are channels, and rows are grouped into `samples` equal groups.
struct QuantLayout {
    std::size_t rows = 1;
    std::size_t columns = 1;
    std::size_t samples = 1;
    bool sums_rows = false;  ///< the product sums over the rows (weights), not over the columns: per_group groups those
    bool sums_samples =
        false;  ///< the product adds codes of different samples: symmetric per_sample scales are aligned
};

/// Values outside are clipped.
struct ClipRange {
    float low = 0;
    float high = 0;

    bool operator==(const ClipRange&) const = default;
};

/// ||quantized - exact||^2 and ||exact||^2, in doubles, in a fixed order.
struct QuantError {
    double error = 0;
    double signal = 0;
};

/// One tensor's quantizer: its options and the state of its observer. Plans its memory on first use. Not thread-safe.
class Quantizer {
public:
    explicit Quantizer(const QuantizerOptions& options) : options_(options) {}

    /// Forgets the observed ranges: a new client, a new round.
    void reset();
    /// For a learned observer: what apply and encode use from now on, until the next one or reset: one entry for each
    /// group that shares a scale. Values beyond its codes are clipped. Without it they throw PreconditionError, at
    /// integer widths: at those of a floating-point format, and at 32 bits, a learned observer is like minmax.
    void set_grid(std::span<const ScaleZero> grid);

    /// Quantizes `x` into `out` (which may be `x`) with `bits` bits; 32 copies, and the observer learns nothing.
    /// Where `bits` stand for a floating-point format, scheme and observer matter less: fp16 and the 8-bit formats have
    /// one scale for the tensor, the power of two that brings the largest observed magnitude into the upper half of
    /// their range (choose_float_scale); bf16 has no scale, and the observer learns nothing.
    /// `update_range` lets the observer learn from x (training); without it the last ranges hold, and the exact ones of
    /// x if there are none yet. Samples, and groups of activations, come and go with each batch: they always take the
    /// ranges of x.
    /// `key` is used by stochastic rounding only: value i takes 16-bit half i of its stream's words. Counts clipped
    /// values. Throws TrainingError if x holds a NaN or an infinity; the observer is then as it was.
    void apply(std::span<const float> x, std::span<float> out, const QuantLayout& layout, int bits,
               const StreamKey& key, bool update_range = true);

    /// The same, but writes integer codes of up to 8 bits, one a byte: with `signed_codes` the symmetric code q itself,
    /// in two's complement; without, q + offset(), 0..255, where offset() is the zero point (affine) or 2^(bits - 1)
    /// (symmetric). x^ = scale * (byte - offset). Signed codes need a symmetric scheme, per_channel a signed one, and
    /// per_group has no codes.
    void encode(std::span<const float> x, std::span<std::uint8_t> codes, const QuantLayout& layout, int bits,
                const StreamKey& key, bool signed_codes, bool update_range = true);
    /// The error that apply would make with 2..16 bits as integers, without writing the values down.
    QuantError error(std::span<const float> x, const QuantLayout& layout, int bits, const StreamKey& key);
    /// The offset of unsigned codes of group `index` (a sample, or the tensor) of the last encode.
    std::int32_t offset(std::size_t index) const;
    /// Marks the values that the last apply or encode clipped, whose x and layout these must be: bit i % 8 of bits[i /
    /// 8].
    void mark_clipped(std::span<const float> x, std::span<std::uint8_t> bits) const;

    /// Straight-through estimator: sets gradient[i] to 0 wherever x[i] was outside the clip range of the last apply,
    /// whose x and layout these must be.
    void mask_gradient(std::span<const float> x, std::span<float> gradient, const QuantLayout& layout) const;

    std::size_t clipped() const { return clipped_; }               ///< values outside the range in the last apply
    std::span<const ScaleZero> scales() const { return scales_; }  ///< of the last apply
    const QuantizerOptions& options() const { return options_; }

private:
    /// How values share scales: `blocks` runs of `block` values, in each of which `channels` scales take turns.
    struct Partition {
        std::size_t blocks = 1;
        std::size_t block = 0;
        std::size_t channels = 1;

        std::size_t groups() const { return blocks * channels; }
    };

    Partition partition_of(std::size_t count, const QuantLayout& layout) const;
    bool remembers(const QuantLayout& layout) const;
    void observe(std::span<const float> x, const QuantLayout& layout, bool update_range);
    void measure(std::span<const float> x);
    bool measure_runs(std::span<const float> x);
    bool measure_channels(std::span<const float> x, std::size_t block);
    void choose_scales(std::span<const float> x, const QuantLayout& layout, bool update_range);
    void take_grid(std::span<const float> x);
    void take_ranges(bool aligned);
    void align_scales();
    void spread_scales();
    void choose_format_scale(FloatFormat format);
    /// What the observers that look for a range do to the extremes in measured_.
    void cut_percentile(std::span<const float> x);
    void cut_for_least_error(std::span<const float> x);
    void round_floats(std::span<const float> x, std::span<float> out, const QuantLayout& layout, FloatFormat format,
                      const StreamKey& key, bool update_range);
    /// Hands runs of values that share a grid to nearest(begin, count, grid) or to stochastic(begin, count, grid,
    /// random), which return how many they clipped.
    template <typename Nearest, typename Stochastic>
    void round(std::span<const float> x, const StreamKey& key, const Nearest& nearest, const Stochastic& stochastic);
    /// Calls visit(begin, count, grid) for runs of values that share grids and a chunk of random words.
    template <typename Visit>
    void for_each_run(std::size_t count, const Visit& visit) const;

    QuantizerOptions options_;
    std::vector<ClipRange> measured_;  ///< of this tensor, one for each group that shares a scale
    std::vector<ClipRange> observed_;  ///< what the observer has learnt; empty if nothing
    std::vector<ScaleZero> grid_;      ///< of a learned observer
    std::vector<ClipRange> clip_;      ///< of the last apply
    std::vector<ScaleZero> scales_;
    Partition partition_;
    std::vector<float> columns_;       ///< grids of channels or of small groups, side by side for the kernels
    std::vector<float> bounds_;        ///< lowest and highest values, side by side for the kernels
    std::vector<float> gathered_;      ///< percentile: the values of a group
    std::vector<ClipRange> extremes_;  ///< mse
    std::vector<double> errors_;       ///< mse: of a block's channels, or its least ones
    std::vector<double> least_errors_;
    std::vector<float> rounded_;                ///< error(): of a chunk
    std::vector<std::uint16_t> random_;         ///< of a chunk
    std::vector<std::uint8_t> clipped_chunks_;  ///< 1 for each chunk of values with a clipped one
    std::size_t clipped_ = 0;
    int bits_ = 32;
};

/// Sets gradient[i] to 0 where bit i % 8 of bits[i / 8] is set.
void stop_marked(std::span<const std::uint8_t> bits, std::span<float> gradient);

QuantError quant_error(std::span<const float> exact, std::span<const float> quantized);

}  // namespace dither
