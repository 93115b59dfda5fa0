// The products behind make_integer_linear and make_integer_convolution. Private to core/compute.
#pragma once

#include "core/compute/backend.hpp"
#include "core/compute/detail/integer_kernels.hpp"
#include "core/compute/integer.hpp"

#include <boost/align/aligned_allocator.hpp>

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace dither::detail {

using WideCodes = std::vector<std::int16_t, boost::alignment::aligned_allocator<std::int16_t, 64>>;

/// Those of an instruction set; empty: of the fastest. Throws PreconditionError on one that is not here.
const IntegerKernels& choose_integer_kernels(std::string_view instruction_set);

/// Products of that many codes of an activation and of a weight or gradient fit in 32 bits.
std::int64_t most_summands();

/// Throw PreconditionError unless the operands of an operation fit the plan.
void check_integer_operands(std::int64_t items, std::int64_t max_items, std::size_t x, std::int64_t in, std::size_t y,
                            std::int64_t out);
void check_integer_weights(std::size_t w, std::int64_t expected);
void check_zero_points(std::span<const std::int32_t> zero_points, std::int64_t items);

/// One direction of a product as an IntegerTask (whose terms these are), with the room for its packed operand.
struct IntegerPlan {
    std::vector<std::int64_t> rows;
    std::vector<std::int64_t> outputs;
    std::vector<std::int64_t> groups;
    std::vector<std::int64_t> sources;  ///< of the packed operand; a whole number of groups
    WideCodes packed;                   ///< for each section of channels

    /// Appends a run of values that are neighbours in the row operand: `offset`, `offset` + `step`, ...; the last group
    /// is filled up with zeros.
    void add_run(std::int64_t group, std::int64_t offset, std::int64_t step, std::span<const std::int64_t> sources);
    /// Makes room for the packed operand.
    void reserve(const IntegerKernels& kernels, std::int64_t channels, std::int64_t sections);
    std::int64_t section_size(const IntegerKernels& kernels, std::int64_t channels) const;
};

class IntegerLinear final : public IntegerProduct {
public:
    IntegerLinear(const IntegerKernels& kernels, std::int64_t in, std::int64_t out, std::int64_t max_items);

    std::int64_t block() const override { return max_items_; }
    void pack_forward(std::span<const std::int8_t> w) override;
    void forward(std::int64_t items, std::span<const std::uint8_t> x, std::span<const std::int32_t> zero_points,
                 std::span<std::int32_t> y) override;
    void pack_backward(std::span<const std::int8_t> w) override;
    void backward_input(std::int64_t items, std::span<const std::int8_t> dy, std::span<std::int32_t> dx) override;
    void weight_gradient(std::int64_t items, std::span<const std::uint8_t> x, std::span<const std::int32_t> zero_points,
                         std::span<const std::int8_t> dy, std::span<const std::uint8_t> shifts,
                         std::span<std::int32_t> dw, bool add) override;
    std::int64_t sum_items() const override { return most_summands() >> kMaxShift; }

private:
    void widen(std::int64_t items, std::span<const std::uint8_t> x, std::span<const std::int32_t> zero_points);

    const IntegerKernels& kernels_;
    std::int64_t in_;
    std::int64_t out_;
    std::int64_t max_items_;
    IntegerPlan forward_;
    IntegerPlan backward_;
    IntegerPlan gradient_;
    std::vector<std::uint8_t> shifts_;  ///< of the items, a whole number of groups
    WideCodes wide_;                    ///< [items, in] or [items, out]
    WideCodes interleaved_;             ///< [items / group, in, group]
    bool forward_packed_ = false;
    bool backward_packed_ = false;
};

class IntegerConvolution final : public IntegerProduct {
public:
    IntegerConvolution(const IntegerKernels& kernels, const ConvGeometry& geometry, std::int64_t max_items);

    std::int64_t block() const override { return 1; }
    void pack_forward(std::span<const std::int8_t> w) override;
    void forward(std::int64_t items, std::span<const std::uint8_t> x, std::span<const std::int32_t> zero_points,
                 std::span<std::int32_t> y) override;
    void pack_backward(std::span<const std::int8_t> w) override;
    void backward_input(std::int64_t items, std::span<const std::int8_t> dy, std::span<std::int32_t> dx) override;
    void weight_gradient(std::int64_t items, std::span<const std::uint8_t> x, std::span<const std::int32_t> zero_points,
                         std::span<const std::int8_t> dy, std::span<const std::uint8_t> shifts,
                         std::span<std::int32_t> dw, bool add) override;
    std::int64_t sum_items() const override;

private:
    /// A zero-padded image.
    struct Grid {
        std::int64_t height;
        std::int64_t width;
        std::int64_t channels;
        std::int64_t top;  ///< padding above and on the left

        std::int64_t row() const { return width * channels; }
        std::int64_t count() const { return height * row(); }
    };
    /// How the operands are cut into sections of channels that do not see each other: the groups of the convolution,
    /// or one of all channels where the kernels work channel by channel.
    struct Section {
        std::int64_t in;
        std::int64_t out;
    };

    /// Plan and workspace of the sums over live values. A window is `kernel` runs of `vectors` vectors each.
    struct Live {
        std::int64_t run = 0;  ///< values of a run; 0: never sparse
        std::int64_t vectors = 0;
        std::vector<std::int64_t> dense;     ///< places of a window's vectors where its runs are neighbours
        std::vector<std::int64_t> window;    ///< and in a padded image
        std::vector<std::int32_t> windows;   ///< where the window of each output position starts
        std::vector<std::int32_t> channels;  ///< where the weights of each output channel start
        std::vector<std::int32_t> offsets;   ///< of the live values, list by list
        std::vector<std::int16_t> values;
        std::vector<LiveList> lists;
        std::vector<LiveList> sorted;
        std::vector<std::int32_t> lengths;    ///< how many lists have each length
        std::vector<std::int8_t> transposed;  ///< dy, [out_channels, positions]
        WideCodes weights;                    ///< [out_channels, kernel, vectors]
        std::vector<std::int32_t> sums;       ///< [out_channels, kernel, vectors], or a padded image's gradient
    };

    void plan_forward();
    /// The inputs whose distance to the first tap above and on the left is `y` and `x` modulo the stride: they meet the
    /// same taps.
    void plan_backward(std::int64_t y, std::int64_t x);
    void plan_gradient();
    void plan_live();
    /// Whether the live values of this image's gradient leave less than a share of the multiplications.
    bool is_sparse(const std::int8_t* dy, double share) const;
    void list_live(std::int64_t lists, std::int64_t row, const std::int8_t* values,
                   const std::vector<std::int32_t>& offsets);
    std::span<const LiveList> sort_lists(std::span<const LiveList> lists);
    void scatter_live(const std::int8_t* dy, std::int32_t* dx);
    void add_live_gradient(const std::int8_t* dy, std::int32_t* dw);
    void pad_codes(const std::uint8_t* image, std::int32_t zero_point);
    void pad_gradient(const std::int8_t* dy);
    /// The row operand of neighbours at this distance.
    const std::int16_t* interleaved(const WideCodes& padded, const Grid& grid, std::int64_t distance);
    void pack(IntegerPlan& plan, const std::int8_t* from, std::int64_t section, std::int64_t channels,
              std::int64_t channel_stride);
    void multiply(const IntegerPlan& plan, const std::int16_t* base, std::int64_t base_section, std::int64_t channels,
                  std::int32_t* out, bool accumulate);

    const IntegerKernels& kernels_;
    ConvGeometry geometry_;
    std::int64_t max_items_;
    bool depthwise_;
    std::int64_t sections_;
    Section section_;
    std::int64_t image_;      ///< values of an image
    std::int64_t positions_;  ///< of the kernel
    std::int64_t weights_;
    Grid grid_;         ///< of images
    Grid output_grid_;  ///< of output gradients
    IntegerPlan forward_;
    std::vector<IntegerPlan> backward_;  ///< one for each class of inputs, stride * stride
    IntegerPlan gradient_;
    WideCodes padded_;
    WideCodes padded_gradient_;
    WideCodes interleaved_;
    Live live_;
    bool forward_packed_ = false;
    bool backward_packed_ = false;
};

}  // namespace dither::detail
