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

template <typename Value>
using AlignedValues = std::vector<Value, boost::alignment::aligned_allocator<Value, 64>>;

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
template <typename Kernels>
struct IntegerPlan {
    using Row = typename Kernels::RowValue;
    using Packed = typename Kernels::PackedValue;

    std::vector<std::int64_t> rows;
    std::vector<std::int64_t> outputs;
    std::vector<std::int64_t> groups;
    std::vector<std::int64_t> sources;       ///< of the packed operand; a whole number of groups
    AlignedValues<Packed> packed;            ///< for each section of channels
    std::vector<std::int32_t> channel_sums;  ///< likewise; where rows are not centred
    std::vector<std::int32_t> excess;        ///< of each row, likewise

    std::int64_t group_count() const { return static_cast<std::int64_t>(groups.size()); }
    /// Appends a run of values that are neighbours in the row operand: `offset`, `offset` + `step`, ...; the last group
    /// is filled up with zeros.
    void add_run(std::int64_t group, std::int64_t offset, std::int64_t step, std::span<const std::int64_t> sources);
    /// Makes room for the packed operand, once rows and runs are there.
    void reserve(const Kernels& kernels, std::int64_t channels, std::int64_t sections);
    /// The excess of every row.
    void set_excess(std::int32_t value);
    void pack(const Kernels& kernels, const IntegerPacking& packing, std::int64_t section = 0);
    /// Over the first rows and groups; `by_channel`: multiply_channels.
    void multiply(const Kernels& kernels, const Row* base, std::int64_t row_count, std::int64_t group_count,
                  std::int64_t channels, std::int32_t* out, bool accumulate, bool by_channel = false,
                  std::int64_t section = 0) const;

private:
    /// Channels of whole panels.
    std::int64_t width(const Kernels& kernels, std::int64_t channels) const;
};

extern template struct IntegerPlan<WordKernels>;
extern template struct IntegerPlan<ByteKernels>;

/// A zero-padded image.
struct PaddedGrid {
    std::int64_t height;
    std::int64_t width;
    std::int64_t channels;
    std::int64_t top;  ///< padding above and on the left

    std::int64_t row() const { return width * channels; }
    std::int64_t count() const { return height * row(); }
};

/// The grid of a convolution's input images.
PaddedGrid input_grid(const ConvGeometry& geometry);
/// Where a convolution's windows start in it.
std::vector<std::int64_t> window_starts(const ConvGeometry& geometry);

/// The adjoints of a convolution by the live (non-zero) values of a gradient alone, for gradients that have few of
/// them, as those behind ReLU and pooling. Plan and workspace; a window is `kernel` runs of `vectors` vectors each.
class LiveGradients {
public:
    LiveGradients(const IntegerKernels& kernels, const ConvGeometry& geometry);

    /// The share of the dense multiplications that this image's gradient leaves, 1 where there is no such plan.
    double share(const std::int8_t* dy) const;
    void pack(const std::int8_t* w);
    /// As IntegerProduct::backward_input of one image.
    void input_gradient(const std::int8_t* dy, std::int32_t* dx);
    /// dw += that of one image.
    void add_weight_gradient(const std::uint8_t* x, std::int32_t zero_point, const std::int8_t* dy, std::int32_t* dw);

private:
    void list(std::int64_t lists, std::int64_t row, const std::int8_t* values,
              const std::vector<std::int32_t>& offsets);
    std::span<const LiveList> sort(std::span<const LiveList> lists);

    const WordKernels& words_;
    const IntegerLiveKernels& kernels_;
    ConvGeometry geometry_;
    PaddedGrid grid_;
    std::int64_t positions_;
    std::int64_t run_ = 0;  ///< values of a run; 0: no plan
    std::int64_t vectors_ = 0;
    std::vector<std::int64_t> starts_;    ///< where the window of each output position starts
    std::vector<std::int64_t> dense_;     ///< places of a window's vectors where its runs are neighbours
    std::vector<std::int64_t> window_;    ///< and in a padded image
    std::vector<std::int32_t> windows_;   ///< starts_, as offsets
    std::vector<std::int32_t> channels_;  ///< where the weights of each output channel start
    std::vector<std::int32_t> offsets_;   ///< of the live values, list by list
    std::vector<std::int16_t> values_;
    std::vector<LiveList> lists_;
    std::vector<LiveList> sorted_;
    std::vector<std::int32_t> lengths_;    ///< how many lists have each length
    std::vector<std::int8_t> transposed_;  ///< dy, [out_channels, positions]
    AlignedValues<std::int16_t> padded_;
    AlignedValues<std::int16_t> weights_;  ///< [out_channels, kernel, vectors]
    std::vector<std::int32_t> sums_;       ///< [out_channels, kernel, vectors], or a padded image's gradient
};

/// Forward and backward by `Kernels`; the weight gradient by words, since items have shifts.
template <typename Kernels>
class IntegerLinear final : public IntegerProduct {
public:
    IntegerLinear(const Kernels& kernels, const WordKernels& words, std::int64_t in, std::int64_t out,
                  std::int64_t max_items);

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
    const Kernels& kernels_;
    const WordKernels& words_;
    std::int64_t in_;
    std::int64_t out_;
    std::int64_t max_items_;
    IntegerPlan<Kernels> forward_;
    IntegerPlan<Kernels> backward_;
    IntegerPlan<WordKernels> gradient_;
    std::vector<std::uint8_t> shifts_;                ///< of the items, a whole number of groups
    AlignedValues<typename Kernels::RowValue> rows_;  ///< [items, in] or [items, out]
    AlignedValues<std::int16_t> centred_;             ///< [items, in]
    AlignedValues<std::int16_t> interleaved_;         ///< [items / group, in, group]
    bool forward_packed_ = false;
    bool backward_packed_ = false;
};

template <typename Kernels>
class IntegerConvolution final : public IntegerProduct {
public:
    /// `kernels`: of the instruction set `all`.
    IntegerConvolution(const Kernels& kernels, const IntegerKernels& all, const ConvGeometry& geometry,
                       std::int64_t max_items);

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
    using Row = typename Kernels::RowValue;
    using Plan = IntegerPlan<Kernels>;

    /// How the operands are cut into sections of channels that do not see each other: the groups of the convolution,
    /// or one of all channels where the kernels work channel by channel.
    struct Section {
        std::int64_t in;
        std::int64_t out;
    };

    void plan_forward();
    /// The inputs whose distance to the first tap above and on the left is `y` and `x` modulo the stride: they meet the
    /// same taps.
    void plan_backward(std::int64_t y, std::int64_t x);
    void plan_gradient();
    void pad_codes(const std::uint8_t* image, std::int32_t zero_point);
    void pad_gradient(const std::int8_t* dy);
    /// The row operand of neighbours at this distance.
    const Row* interleaved(const AlignedValues<Row>& padded, const PaddedGrid& grid, std::int64_t distance);
    void pack(Plan& plan, const std::int8_t* from, std::int64_t section, std::int64_t channels,
              std::int64_t channel_stride);
    void multiply(const Plan& plan, const Row* base, std::int64_t base_section, std::int64_t channels,
                  std::int32_t* out, bool accumulate);

    const Kernels& kernels_;
    ConvGeometry geometry_;
    std::int64_t max_items_;
    bool depthwise_;
    std::int64_t sections_;
    Section section_;
    std::int64_t image_;      ///< values of an image
    std::int64_t positions_;  ///< of the kernel
    std::int64_t weights_;
    PaddedGrid grid_;         ///< of images
    PaddedGrid output_grid_;  ///< of output gradients
    Plan forward_;
    std::vector<Plan> backward_;  ///< one for each class of inputs, stride * stride
    Plan gradient_;
    std::int32_t padding_ = 0;  ///< the value around the padded image
    AlignedValues<Row> padded_;
    AlignedValues<Row> padded_gradient_;
    AlignedValues<Row> interleaved_;
    LiveGradients live_;
    bool forward_packed_ = false;
    bool backward_packed_ = false;
};

extern template class IntegerLinear<WordKernels>;
extern template class IntegerLinear<ByteKernels>;
extern template class IntegerConvolution<WordKernels>;
extern template class IntegerConvolution<ByteKernels>;

}  // namespace dither::detail
