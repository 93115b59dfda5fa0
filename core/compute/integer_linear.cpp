// A linear layer on codes: the batch is the matrix [items, in], so rows are items.
#include "core/compute/detail/integer_products.hpp"
#include "core/error.hpp"

#include <algorithm>

namespace dither::detail {
namespace {

std::vector<std::int64_t> multiples(std::int64_t count, std::int64_t step) {
    std::vector<std::int64_t> values(static_cast<std::size_t>(count));
    for (std::int64_t i = 0; i < count; ++i)
        values[static_cast<std::size_t>(i)] = i * step;
    return values;
}

std::int64_t round_up(std::int64_t count, std::int64_t multiple) {
    return (count + multiple - 1) / multiple * multiple;
}

void check_shifts(std::span<const std::uint8_t> shifts, std::int64_t items) {
    require(shifts.empty() || shifts.size() == static_cast<std::size_t>(items), "expected {} shifts or none, got {}",
            items, shifts.size());
    for (const std::uint8_t shift : shifts)
        require(shift <= IntegerProduct::kMaxShift, "expected shifts of at most {}, got {}",
                IntegerProduct::kMaxShift + 0, int{shift});
}

}  // namespace

template <typename Kernels>
IntegerLinear<Kernels>::IntegerLinear(const Kernels& kernels, const WordKernels& words, std::int64_t in,
                                      std::int64_t out, std::int64_t max_items)
    : kernels_(kernels), words_(words), in_(in), out_(out), max_items_(max_items) {
    forward_.rows = multiples(max_items, in);
    forward_.outputs = multiples(max_items, out);
    forward_.add_run(kernels_.group, 0, 1, multiples(in, out));
    forward_.reserve(kernels_, out, 1);

    backward_.rows = multiples(max_items, out);
    backward_.outputs = multiples(max_items, in);
    backward_.add_run(kernels_.group, 0, 1, multiples(out, 1));
    backward_.reserve(kernels_, in, 1);
    backward_.set_excess(kByteExcess);

    const std::int64_t group = words_.group;
    gradient_.rows = multiples(in, group);
    gradient_.outputs = multiples(in, out);
    gradient_.add_run(group, 0, in, multiples(max_items, out));
    gradient_.reserve(words_, out, 1);

    const std::int64_t items = round_up(max_items, group);
    shifts_.resize(static_cast<std::size_t>(items));
    rows_.resize(static_cast<std::size_t>(max_items * std::max(in, out) + kIntegerSlack));
    centred_.resize(static_cast<std::size_t>(items * in + kIntegerSlack));
    interleaved_.resize(static_cast<std::size_t>(items * in + kIntegerSlack));
}

template <typename Kernels>
void IntegerLinear<Kernels>::pack_forward(std::span<const std::int8_t> w) {
    check_integer_weights(w.size(), in_ * out_);
    forward_.pack(kernels_, {w.data(), forward_.group_count(), forward_.sources.data(), out_, 1, nullptr});
    forward_packed_ = true;
}

template <typename Kernels>
void IntegerLinear<Kernels>::pack_backward(std::span<const std::int8_t> w) {
    check_integer_weights(w.size(), in_ * out_);
    backward_.pack(kernels_, {w.data(), backward_.group_count(), backward_.sources.data(), in_, out_, nullptr});
    backward_packed_ = true;
}

template <typename Kernels>
void IntegerLinear<Kernels>::forward(std::int64_t items, std::span<const std::uint8_t> x,
                                     std::span<const std::int32_t> zero_points, std::span<std::int32_t> y) {
    check_integer_operands(items, max_items_, x.size(), in_, y.size(), out_);
    check_zero_points(zero_points, items);
    require(forward_packed_, "forward before pack_forward");
    for (std::int64_t i = 0; i < items; ++i)
        kernels_.load_codes(in_, x.data() + i * in_, zero_points[static_cast<std::size_t>(i)], rows_.data() + i * in_);
    if (!Kernels::kCentred)
        std::ranges::copy(zero_points, forward_.excess.begin());
    forward_.multiply(kernels_, rows_.data(), items, forward_.group_count(), out_, y.data(), false);
}

template <typename Kernels>
void IntegerLinear<Kernels>::backward_input(std::int64_t items, std::span<const std::int8_t> dy,
                                            std::span<std::int32_t> dx) {
    check_integer_operands(items, max_items_, dx.size(), in_, dy.size(), out_);
    require(backward_packed_, "backward_input before pack_backward");
    kernels_.load_signed(items * out_, dy.data(), rows_.data());
    backward_.multiply(kernels_, rows_.data(), items, backward_.group_count(), in_, dx.data(), false);
}

template <typename Kernels>
void IntegerLinear<Kernels>::weight_gradient(std::int64_t items, std::span<const std::uint8_t> x,
                                             std::span<const std::int32_t> zero_points, std::span<const std::int8_t> dy,
                                             std::span<const std::uint8_t> shifts, std::span<std::int32_t> dw,
                                             bool add) {
    check_integer_operands(items, max_items_, x.size(), in_, dy.size(), out_);
    check_zero_points(zero_points, items);
    check_integer_weights(dw.size(), in_ * out_);
    check_shifts(shifts, items);
    for (std::int64_t i = 0; i < items; ++i)
        words_.load_codes(in_, x.data() + i * in_, zero_points[static_cast<std::size_t>(i)], centred_.data() + i * in_);
    const std::int64_t group = words_.group;
    const std::int64_t groups = round_up(items, group) / group;
    for (std::int64_t g = 0; g < groups; ++g)
        words_.interleave(in_, centred_.data() + g * group * in_, in_, interleaved_.data() + g * group * in_);
    // Items that fill up the last group: whatever they are, they meet zeros.
    std::vector<std::int64_t>& sources = gradient_.sources;
    for (std::int64_t i = 0; i < groups * group; ++i)
        sources[static_cast<std::size_t>(i)] = i < items ? i * out_ : -1;
    std::ranges::copy(shifts, shifts_.begin());
    gradient_.pack(words_, {dy.data(), groups, sources.data(), out_, 1, shifts.empty() ? nullptr : shifts_.data()});
    gradient_.multiply(words_, interleaved_.data(), in_, groups, out_, dw.data(), add);
}

template class IntegerLinear<WordKernels>;
template class IntegerLinear<ByteKernels>;

}  // namespace dither::detail
