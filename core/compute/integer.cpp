#include "core/compute/integer.hpp"

#include "core/compute/backend.hpp"
#include "core/compute/detail/integer_products.hpp"
#include "core/detail/processor.hpp"
#include "core/error.hpp"

#include <algorithm>
#include <limits>

namespace dither {
namespace detail {

extern const WordKernels kWordsBaseline;
extern const ByteKernels kBytesBaseline;
extern const IntegerLiveKernels kLiveBaseline;
#ifdef DITHER_X86_KERNELS
extern const WordKernels kWordsAvx2;
extern const IntegerLiveKernels kLiveAvx2;
extern const WordKernels kWordsAvx512;
extern const IntegerLiveKernels kLiveAvx512;
extern const WordKernels kWordsAvx512Vnni;
extern const ByteKernels kBytesAvx512Vnni;
extern const IntegerLiveKernels kLiveAvx512Vnni;
#endif

namespace {

#ifdef __AVX512VNNI__  // DITHER_NATIVE: the baseline is this processor's
constexpr const ByteKernels* kFastBytes = &kBytesBaseline;
#else
constexpr const ByteKernels* kFastBytes = nullptr;
#endif

// "baseline_bytes" is there for what tests learn from it, on any processor.
constexpr IntegerKernels kBaselineBytes{"baseline_bytes", &kWordsBaseline, &kBytesBaseline, &kLiveBaseline};
constexpr IntegerKernels kBaseline{"baseline", &kWordsBaseline, kFastBytes, &kLiveBaseline};
#ifdef DITHER_X86_KERNELS
constexpr IntegerKernels kAvx2{"avx2", &kWordsAvx2, nullptr, &kLiveAvx2};
constexpr IntegerKernels kAvx512{"avx512", &kWordsAvx512, nullptr, &kLiveAvx512};
constexpr IntegerKernels kAvx512Vnni{"avx512_vnni", &kWordsAvx512Vnni, &kBytesAvx512Vnni, &kLiveAvx512Vnni};
#endif

}  // namespace

std::int64_t most_summands() {
    return std::numeric_limits<std::int32_t>::max() / (255 * 127);
}

void check_integer_operands(std::int64_t items, std::int64_t max_items, std::size_t x, std::int64_t in, std::size_t y,
                            std::int64_t out) {
    require(items >= 0 && items <= max_items, "an integer product planned for {} items got {}", max_items, items);
    require(x == static_cast<std::size_t>(items * in), "expected {} input codes, got {}", items * in, x);
    require(y == static_cast<std::size_t>(items * out), "expected {} output values, got {}", items * out, y);
}

void check_integer_weights(std::size_t w, std::int64_t expected) {
    require(w == static_cast<std::size_t>(expected), "expected {} weights, got {}", expected, w);
}

void check_zero_points(std::span<const std::int32_t> zero_points, std::int64_t items) {
    require(zero_points.size() == static_cast<std::size_t>(items), "expected {} zero points, got {}", items,
            zero_points.size());
    for (const std::int32_t zero_point : zero_points)
        require(zero_point >= 0 && zero_point <= 255, "expected a zero point of 0 to 255, got {}", zero_point);
}

}  // namespace detail

namespace {

using detail::IntegerKernels;

/// Slowest first.
std::vector<const IntegerKernels*> usable_integer_kernels() {
    std::vector<const IntegerKernels*> usable{&detail::kBaselineBytes, &detail::kBaseline};
#ifdef DITHER_X86_KERNELS
    if (detail::has_avx2())
        usable.push_back(&detail::kAvx2);
    if (detail::has_avx512())
        usable.push_back(&detail::kAvx512);
    if (detail::has_avx512_vnni())
        usable.push_back(&detail::kAvx512Vnni);
#endif
    return usable;
}

}  // namespace

const IntegerKernels& detail::choose_integer_kernels(std::string_view instruction_set) {
    const std::vector<const IntegerKernels*> usable = usable_integer_kernels();
    if (instruction_set.empty())
        return *usable.back();
    const auto chosen = std::ranges::find(usable, instruction_set, [](const IntegerKernels* kernels) {
        return std::string_view(kernels->instruction_set);
    });
    require(chosen != usable.end(), "no integer kernels for instruction set \"{}\" here", instruction_set);
    return **chosen;
}

std::vector<std::string_view> integer_instruction_sets() {
    std::vector<std::string_view> names;
    for (const IntegerKernels* kernels : usable_integer_kernels())
        names.emplace_back(kernels->instruction_set);
    return names;
}

bool fits_integers(std::int64_t in, std::int64_t out) {
    return std::max(in, out) <= detail::most_summands();
}

bool fits_integers(const ConvGeometry& geometry) {
    const std::int64_t positions = geometry.out_height() * geometry.out_width();
    const std::int64_t taps = (geometry.kernel + geometry.stride - 1) / geometry.stride;
    const std::int64_t fan_out = taps * taps * geometry.out_channels / geometry.groups;
    return std::max({geometry.fan_in(), fan_out, positions}) <= detail::most_summands();
}

std::unique_ptr<IntegerProduct> make_integer_linear(std::int64_t in, std::int64_t out, std::int64_t max_items,
                                                    std::string_view instruction_set) {
    require(in > 0 && out > 0 && max_items > 0, "an integer product [{}, {}] for {} items: all must be positive", in,
            out, max_items);
    require(fits_integers(in, out), "an integer product [{}, {}]: sums of more than {} products may leave 32 bits", in,
            out, detail::most_summands());
    const IntegerKernels& kernels = detail::choose_integer_kernels(instruction_set);
    if (kernels.bytes != nullptr)
        return std::make_unique<detail::IntegerLinear<detail::ByteKernels>>(*kernels.bytes, *kernels.words, in, out,
                                                                            max_items);
    return std::make_unique<detail::IntegerLinear<detail::WordKernels>>(*kernels.words, *kernels.words, in, out,
                                                                        max_items);
}

std::unique_ptr<IntegerProduct> make_integer_convolution(const ConvGeometry& geometry, std::int64_t max_items,
                                                         std::string_view instruction_set) {
    geometry.check();
    require(max_items > 0, "an integer convolution for {} items: expected at least one", max_items);
    require(fits_integers(geometry), "an integer convolution whose sums of more than {} products may leave 32 bits",
            detail::most_summands());
    const IntegerKernels& kernels = detail::choose_integer_kernels(instruction_set);
    if (kernels.bytes != nullptr)
        return std::make_unique<detail::IntegerConvolution<detail::ByteKernels>>(*kernels.bytes, kernels, geometry,
                                                                                 max_items);
    return std::make_unique<detail::IntegerConvolution<detail::WordKernels>>(*kernels.words, kernels, geometry,
                                                                             max_items);
}

}  // namespace dither
