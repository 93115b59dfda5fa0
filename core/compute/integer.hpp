// Products of integer codes, on the processor's integer units: y = sum over (x - zero_point) * w, exact in 32 bits.
//
// Integer sums have no rounding, so the result is the same on every instruction set and in every order: a model that is
// trained in 8 bits does not depend on the processor. Codes of 2 to 8 bits run on the same units.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

namespace dither {

struct ConvGeometry;

/// The counterpart of Product on codes. Activations are unsigned codes, 0..255, less a zero point of their item;
/// weights and gradients are signed, -127..127. Where a convolution pads, it pads with the zero point. Every span is
/// dense and row-major. Owns its workspace, so one object serves one thread at a time; planned at construction, no call
/// allocates.
class IntegerProduct {
public:
    static constexpr int kMaxShift = 8;

    virtual ~IntegerProduct() = default;

    /// The items that a caller should give at a time, so that operands and result stay in the caches: one image of a
    /// convolution, the whole batch of a linear layer.
    virtual std::int64_t block() const = 0;

    /// w: [..., in, out] as in Product. Holds until it is called again.
    virtual void pack_forward(std::span<const std::int8_t> w) = 0;
    /// y = (x - zero_points) * w; `zero_points` holds one value for each item, 0..255.
    virtual void forward(std::int64_t items, std::span<const std::uint8_t> x, std::span<const std::int32_t> zero_points,
                         std::span<std::int32_t> y) = 0;
    virtual void pack_backward(std::span<const std::int8_t> w) = 0;
    /// dx = the adjoint applied to the codes dy.
    virtual void backward_input(std::int64_t items, std::span<const std::int8_t> dy, std::span<std::int32_t> dx) = 0;
    /// dw = sum over the items of (x - zero_points)^T (dy * 2^shift), or += where `add`. `shifts` holds 0..kMaxShift
    /// for each item, so that the items of a batch may have scales of their own that differ by powers of two; empty for
    /// none. A convolution takes none: its caller may take dw away after each image and scale it freely. The caller
    /// takes dw away after at most sum_items() items, before a sum can leave 32 bits.
    virtual void weight_gradient(std::int64_t items, std::span<const std::uint8_t> x,
                                 std::span<const std::int32_t> zero_points, std::span<const std::int8_t> dy,
                                 std::span<const std::uint8_t> shifts, std::span<std::int32_t> dw, bool add) = 0;
    /// At least 1; for a linear layer with the largest shifts.
    virtual std::int64_t sum_items() const = 0;
};

/// The instruction sets that integer products were compiled for and that this processor has, slowest first.
std::vector<std::string_view> integer_instruction_sets();

/// Whether every sum over one item stays within 32 bits, whatever the codes: up to 66,311 products of the widest ones.
bool fits_integers(std::int64_t in, std::int64_t out);
bool fits_integers(const ConvGeometry& geometry);

/// `instruction_set` is one of integer_instruction_sets(); empty: the fastest. Throw PreconditionError on another one
/// and on extents that are not positive, or whose sums could leave 32 bits within one item.
std::unique_ptr<IntegerProduct> make_integer_linear(std::int64_t in, std::int64_t out, std::int64_t max_items,
                                                    std::string_view instruction_set = {});
std::unique_ptr<IntegerProduct> make_integer_convolution(const ConvGeometry& geometry, std::int64_t max_items,
                                                         std::string_view instruction_set = {});

}  // namespace dither
