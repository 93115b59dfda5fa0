// 3x3 convolutions of codes with half the multiplications, and the same exact sums.
#pragma once

#include "core/compute/backend.hpp"

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

namespace dither {

/// The forward pass of IntegerProduct for stride 1, by F(4, 3) along the rows of the image (Winograd, "Arithmetic
/// complexity of computations", 1980; Lavin, Gray, "Fast algorithms for convolutional neural networks", CVPR 2016):
///
///     four results = A^T [sum over kernel rows and channels of (G w) * (B^T x)]        of six inputs
///
/// G has fractions, so the weights are transformed with 24 G, and all is 24 times what it should be. Weights then take
/// 12 bits and a sign, and so do inputs, so both fit the 16-bit operands of the integer units; sums wrap around at 32
/// bits, where 24 times the result fits, and the division is exact. Not thread-safe; no call after construction
/// allocates.
class IntegerWinograd {
public:
    /// Stride 1, kernel 3, one group, an even number of 16 to 256 channels in and at least 16 out, and rows that tiles
    /// of four results fill well.
    static bool fits(const ConvGeometry& geometry);
    /// Whether it also is faster than IntegerProduct on this processor: where that has to multiply in 16 bits, too.
    static bool pays(const ConvGeometry& geometry);

    /// `instruction_set` as for make_integer_convolution. Throws PreconditionError unless the geometry fits.
    explicit IntegerWinograd(const ConvGeometry& geometry, std::string_view instruction_set = {});
    IntegerWinograd(IntegerWinograd&&) noexcept;
    ~IntegerWinograd();

    /// w: codes -127 .. 127, [3, 3, in, out].
    void pack(std::span<const std::int8_t> w);
    /// x: [in_height, in_width, in], padded with the zero point; y: [out_height, out_width, out].
    void run(std::span<const std::uint8_t> x, std::int32_t zero_point, std::span<std::int32_t> y);

private:
    class Plan;
    std::unique_ptr<Plan> plan_;
};

}  // namespace dither
