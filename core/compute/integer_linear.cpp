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

IntegerLinear::IntegerLinear(const IntegerKernels& kernels, std::int64_t in, std::int64_t out, std::int64_t max_items)
    : kernels_(kernels), in_(in), out_(out), max_items_(max_items) {
    const std::int64_t group = kernels_.group;
    forward_.rows = multiples(max_items, in);
    forward_.outputs = multiples(max_items, out);
    forward_.add_run(group, 0, 1, multiples(in, out));
    forward_.reserve(kernels_, out, 1);

    backward_.rows = multiples(max_items, out);
    backward_.outputs = multiples(max_items, in);
    backward_.add_run(group, 0, 1, multiples(out, 1));
    backward_.reserve(kernels_, in, 1);

    gradient_.rows = multiples(in, group);
    gradient_.outputs = multiples(in, out);
    gradient_.add_run(group, 0, in, multiples(max_items, out));
    gradient_.reserve(kernels_, out, 1);

    const std::int64_t items = round_up(max_items, group);
    shifts_.resize(static_cast<std::size_t>(items));
    wide_.resize(static_cast<std::size_t>(items * std::max(in, out) + kIntegerSlack));
    interleaved_.resize(static_cast<std::size_t>(items * in + kIntegerSlack));
}

void IntegerLinear::pack_forward(std::span<const std::int8_t> w) {
    check_integer_weights(w.size(), in_ * out_);
    kernels_.pack(
        {w.data(), static_cast<std::int64_t>(forward_.groups.size()), forward_.sources.data(), out_, 1, nullptr},
        forward_.packed.data());
    forward_packed_ = true;
}

void IntegerLinear::pack_backward(std::span<const std::int8_t> w) {
    check_integer_weights(w.size(), in_ * out_);
    kernels_.pack(
        {w.data(), static_cast<std::int64_t>(backward_.groups.size()), backward_.sources.data(), in_, out_, nullptr},
        backward_.packed.data());
    backward_packed_ = true;
}

void IntegerLinear::widen(std::int64_t items, std::span<const std::uint8_t> x,
                          std::span<const std::int32_t> zero_points) {
    for (std::int64_t i = 0; i < items; ++i)
        kernels_.widen_codes(in_, x.data() + i * in_, zero_points[static_cast<std::size_t>(i)], wide_.data() + i * in_);
}

void IntegerLinear::forward(std::int64_t items, std::span<const std::uint8_t> x,
                            std::span<const std::int32_t> zero_points, std::span<std::int32_t> y) {
    check_integer_operands(items, max_items_, x.size(), in_, y.size(), out_);
    check_zero_points(zero_points, items);
    require(forward_packed_, "forward before pack_forward");
    widen(items, x, zero_points);
    kernels_.multiply({wide_.data(), items, forward_.rows.data(), static_cast<std::int64_t>(forward_.groups.size()),
                       forward_.groups.data(), forward_.packed.data(), out_, y.data(), forward_.outputs.data(), false});
}

void IntegerLinear::backward_input(std::int64_t items, std::span<const std::int8_t> dy, std::span<std::int32_t> dx) {
    check_integer_operands(items, max_items_, dx.size(), in_, dy.size(), out_);
    require(backward_packed_, "backward_input before pack_backward");
    kernels_.widen(items * out_, dy.data(), wide_.data());
    kernels_.multiply({wide_.data(), items, backward_.rows.data(), static_cast<std::int64_t>(backward_.groups.size()),
                       backward_.groups.data(), backward_.packed.data(), in_, dx.data(), backward_.outputs.data(),
                       false});
}

void IntegerLinear::weight_gradient(std::int64_t items, std::span<const std::uint8_t> x,
                                    std::span<const std::int32_t> zero_points, std::span<const std::int8_t> dy,
                                    std::span<const std::uint8_t> shifts, std::span<std::int32_t> dw, bool add) {
    check_integer_operands(items, max_items_, x.size(), in_, dy.size(), out_);
    check_zero_points(zero_points, items);
    check_integer_weights(dw.size(), in_ * out_);
    check_shifts(shifts, items);
    widen(items, x, zero_points);
    const std::int64_t group = kernels_.group;
    const std::int64_t groups = round_up(items, group) / group;
    for (std::int64_t g = 0; g < groups; ++g)
        kernels_.interleave(in_, wide_.data() + g * group * in_, in_, interleaved_.data() + g * group * in_);
    // Items that fill up the last group: whatever they are, they meet zeros.
    std::vector<std::int64_t>& sources = gradient_.sources;
    for (std::int64_t i = 0; i < groups * group; ++i)
        sources[static_cast<std::size_t>(i)] = i < items ? i * out_ : -1;
    std::ranges::copy(shifts, shifts_.begin());
    kernels_.pack({dy.data(), groups, sources.data(), out_, 1, shifts.empty() ? nullptr : shifts_.data()},
                  gradient_.packed.data());
    kernels_.multiply({interleaved_.data(), in_, gradient_.rows.data(), groups, gradient_.groups.data(),
                       gradient_.packed.data(), out_, dw.data(), gradient_.outputs.data(), add});
}

}  // namespace dither::detail
