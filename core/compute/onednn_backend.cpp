#include "core/compute/onednn_backend.hpp"

#include "core/compute/detail/eigen_products.hpp"
#include "core/compute/eigen_backend.hpp"
#include "core/error.hpp"
#include "core/simd.hpp"

#include <omp.h>
#include <oneapi/dnnl/dnnl.hpp>

#include <algorithm>
#include <bit>
#include <optional>
#include <unordered_map>

namespace dither {
namespace {

using Memory = dnnl::memory;
using Tag = Memory::format_tag;
using Type = Memory::data_type;
using Arguments = std::unordered_map<int, Memory>;

/// One thread for oneDNN's OpenMP while this lives: the workers are the caller's threads. The number belongs to the
/// calling thread (an internal control variable of its OpenMP task), so that no other thread sees a change.
class OneThread {
public:
    OneThread() : before_(omp_get_max_threads()) { omp_set_num_threads(1); }
    ~OneThread() { omp_set_num_threads(before_); }
    OneThread(const OneThread&) = delete;
    OneThread& operator=(const OneThread&) = delete;

private:
    int before_;
};

/// Runs `work` on one thread; oneDNN's errors become IoError.
template <typename Work>
decltype(auto) with_onednn(Work work) {
    const OneThread one_thread;
    try {
        return work();
    } catch (const dnnl::error& error) {
        throw IoError(fmt::format("oneDNN: {} (status {})", error.what(), static_cast<int>(error.status)));
    }
}

Memory::desc plain(const Memory::dims& extents, Tag tag) {
    return {extents, Type::f32, tag};
}

/// A primitive with its arguments, bound to its memory once: a call sets addresses only.
class Operation {
public:
    Operation(const dnnl::engine& engine, const dnnl::primitive& primitive, const Memory::desc& scratchpad)
        : primitive_(primitive), engine_(engine) {
        arguments_.emplace(DNNL_ARG_SCRATCHPAD, Memory(scratchpad, engine));
    }

    /// An operand whose address comes with each call.
    void borrow(int argument, const Memory::desc& layout) {
        arguments_.emplace(argument, Memory(layout, engine_, DNNL_MEMORY_NONE));
    }
    void own(int argument, const Memory& memory) { arguments_.emplace(argument, memory); }

    void set(int argument, const void* values) { arguments_.at(argument).set_data_handle(const_cast<void*>(values)); }
    void run(dnnl::stream& stream) { primitive_.execute(stream, arguments_); }

private:
    dnnl::primitive primitive_;
    dnnl::engine engine_;
    Arguments arguments_;
};

/// The scratchpad is planned with the operation, not allocated by each call.
dnnl::primitive_attr planned_scratchpad() {
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    return attributes;
}

/// The result is added to what is there.
dnnl::primitive_attr adding() {
    dnnl::primitive_attr attributes = planned_scratchpad();
    dnnl::post_ops after;
    after.append_sum(1.0F);
    attributes.set_post_ops(after);
    return attributes;
}

Operation reorder(const dnnl::engine& engine, const Memory::desc& from, const Memory::desc& to,
                  const dnnl::primitive_attr& attributes) {
    const dnnl::reorder::primitive_desc description(engine, from, engine, to, attributes);
    return {engine, dnnl::reorder(description), description.scratchpad_desc()};
}

/// Weights from the caller's layout into that of a primitive.
class Packing {
public:
    Packing(const dnnl::engine& engine, const Memory::desc& from, const Memory::desc& to)
        : packed_(to, engine), reorder_(reorder(engine, from, to, planned_scratchpad())) {
        reorder_.borrow(DNNL_ARG_FROM, from);
        reorder_.own(DNNL_ARG_TO, packed_);
    }

    const Memory& packed() const { return packed_; }
    void run(dnnl::stream& stream, const float* weights) {
        reorder_.set(DNNL_ARG_FROM, weights);
        reorder_.run(stream);
    }

private:
    Memory packed_;
    Operation reorder_;
};

/// A primitive on weights that are packed apart.
struct WeightedOperation {
    Packing packing;
    Operation operation;
};

/// The layouts of a convolution of `images` images, for oneDNN: it names the extents in NCHW and OIHW order whatever
/// their layout is. Operands of a primitive have a type of their own, its results are fp32, and so is what callers
/// have.
struct ConvolutionLayouts {
    Memory::desc image;
    Memory::desc image_operand;
    Memory::desc result;
    Memory::desc result_operand;
    Memory::desc weights;
    Memory::desc any_weights;  ///< in the layout that the primitive likes best
    Memory::desc any_weights_operand;
    Memory::dims strides;
    Memory::dims padding_before;
    Memory::dims padding_after;

    ConvolutionLayouts(const ConvGeometry& g, std::int64_t images, Type operands)
        : image(plain({images, g.in_channels, g.in_height, g.in_width}, Tag::nhwc)),
          image_operand(image.dims(), operands, Tag::nhwc),
          result(plain({images, g.out_channels, g.out_height(), g.out_width()}, Tag::nhwc)),
          result_operand(result.dims(), operands, Tag::nhwc),
          weights(plain(weight_extents(g), g.groups == 1 ? Tag::hwio : Tag::hwigo)),
          any_weights(plain(weight_extents(g), Tag::any)),
          any_weights_operand(any_weights.dims(), operands, Tag::any),
          strides{g.stride, g.stride},
          padding_before{g.padding, g.padding},
          padding_after{after(g, g.in_height, g.out_height()), after(g, g.in_width, g.out_width())} {}

private:
    static Memory::dims weight_extents(const ConvGeometry& g) {
        if (g.groups == 1)
            return {g.out_channels, g.in_channels, g.kernel, g.kernel};
        return {g.groups, g.out_channels / g.groups, g.in_channels / g.groups, g.kernel, g.kernel};
    }
    /// What the last window needs: less than the padding where the stride does not divide, even negative.
    static std::int64_t after(const ConvGeometry& g, std::int64_t in, std::int64_t out) {
        return (out - 1) * g.stride + g.kernel - in - g.padding;
    }
};

constexpr auto kAlgorithm = dnnl::algorithm::convolution_direct;

dnnl::convolution_forward::primitive_desc describe_forward(const dnnl::engine& engine, const ConvolutionLayouts& c,
                                                           const Memory::desc& result) {
    return {{dnnl::prop_kind::forward_training, kAlgorithm, c.image_operand, c.any_weights_operand, result, c.strides,
             c.padding_before, c.padding_after},
            planned_scratchpad(),
            engine};
}

WeightedOperation plan_forward(const dnnl::engine& engine, const ConvolutionLayouts& c) {
    const auto description = describe_forward(engine, c, c.result);
    WeightedOperation planned{{engine, c.weights, description.weights_desc()},
                              {engine, dnnl::convolution_forward(description), description.scratchpad_desc()}};
    planned.operation.borrow(DNNL_ARG_SRC, c.image_operand);
    planned.operation.own(DNNL_ARG_WEIGHTS, planned.packing.packed());
    planned.operation.borrow(DNNL_ARG_DST, c.result);
    return planned;
}

WeightedOperation plan_backward_input(const dnnl::engine& engine, const ConvolutionLayouts& c) {
    const dnnl::convolution_backward_data::primitive_desc description(
        {kAlgorithm, c.image, c.any_weights_operand, c.result_operand, c.strides, c.padding_before, c.padding_after},
        planned_scratchpad(), engine, describe_forward(engine, c, c.result_operand));
    WeightedOperation planned{{engine, c.weights, description.weights_desc()},
                              {engine, dnnl::convolution_backward_data(description), description.scratchpad_desc()}};
    planned.operation.borrow(DNNL_ARG_DIFF_DST, c.result_operand);
    planned.operation.own(DNNL_ARG_WEIGHTS, planned.packing.packed());
    planned.operation.borrow(DNNL_ARG_DIFF_SRC, c.image);
    return planned;
}

/// dw of several images, added to the caller's by a reorder that sums: the primitive itself overwrites its result.
struct GradientOperation {
    Operation operation;
    Operation add;

    void run(dnnl::stream& stream, const void* x, const void* dy, float* dw) {
        operation.set(DNNL_ARG_SRC, x);
        operation.set(DNNL_ARG_DIFF_DST, dy);
        add.set(DNNL_ARG_TO, dw);
        operation.run(stream);
        add.run(stream);
    }
};

GradientOperation plan_weight_gradient(const dnnl::engine& engine, const ConvolutionLayouts& c) {
    const dnnl::convolution_backward_weights::primitive_desc description(
        {kAlgorithm, c.image_operand, c.any_weights, c.result_operand, c.strides, c.padding_before, c.padding_after},
        planned_scratchpad(), engine, describe_forward(engine, c, c.result_operand));
    const Memory gradient(description.diff_weights_desc(), engine);
    GradientOperation planned{{engine, dnnl::convolution_backward_weights(description), description.scratchpad_desc()},
                              reorder(engine, description.diff_weights_desc(), c.weights, adding())};
    planned.operation.borrow(DNNL_ARG_SRC, c.image_operand);
    planned.operation.borrow(DNNL_ARG_DIFF_DST, c.result_operand);
    planned.operation.own(DNNL_ARG_DIFF_WEIGHTS, gradient);
    planned.add.own(DNNL_ARG_FROM, gradient);
    planned.add.borrow(DNNL_ARG_TO, c.weights);
    return planned;
}

/// Empty where oneDNN has no such primitive.
template <typename Plan>
auto planned(Plan plan) -> std::optional<decltype(plan())> {
    const OneThread one_thread;
    try {
        return plan();
    } catch (const dnnl::error&) {
        return std::nullopt;
    }
}

/// As many images as stay in the second-level cache with their results. Not a matter of the planned number: the order
/// of summation over images follows it.
std::int64_t images_in_cache(std::int64_t in, std::int64_t out) {
    constexpr std::int64_t kCacheFloats = 32768;
    constexpr std::int64_t kMost = 8;
    return std::clamp<std::int64_t>(kCacheFloats / (in + out), 1, kMost);
}

/// The upper halves of fp32 numbers: all that they have where they are bfloat16 values.
DITHER_CLONES
void upper_halves(std::int64_t count, const float* from, std::uint16_t* to) {
    for (std::int64_t i = 0; i < count; ++i)
        to[i] = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(from[i]) >> 16);
}

/// A primitive's operand of some images: the caller's floats, or as bfloat16.
class Operand {
public:
    Operand(Type type, std::int64_t most) : narrow_(type == Type::bf16 ? static_cast<std::size_t>(most) : 0) {}

    const void* of(const float* values, std::int64_t count) {
        if (narrow_.empty())
            return values;
        upper_halves(count, values, narrow_.data());
        return narrow_.data();
    }

private:
    std::vector<std::uint16_t> narrow_;
};

/// Image by image, and Eigen's product where that is faster: in the backward pass of an image whose gradient is mostly
/// zero, and to find the input gradient of so few channels that they fill no vector.
class OneDnnConvolution final : public Product {
public:
    OneDnnConvolution(const dnnl::engine& engine, const ConvGeometry& g, std::int64_t max_items, Type operands,
                      std::unique_ptr<Product> eigen)
        : in_(g.in_height * g.in_width * g.in_channels),
          out_(g.out_height() * g.out_width() * g.out_channels),
          weights_(g.fan_in() * g.out_channels),
          max_items_(max_items),
          block_(images_in_cache(in_, out_)),
          eigen_(std::move(eigen)),
          sparse_(dynamic_cast<const detail::EigenConvolution*>(eigen_.get())),
          x_(operands, block_ * in_),
          dy_(operands, block_ * out_),
          stream_(engine) {
        constexpr std::int64_t kFewChannels = 8;
        const ConvolutionLayouts one(g, 1, operands);
        const ConvolutionLayouts whole(g, block_, operands);
        forward_ = planned([&] { return plan_forward(engine, one); });
        if (g.groups > 1 || g.in_channels >= kFewChannels)
            backward_input_ = planned([&] { return plan_backward_input(engine, one); });
        gradient_ = planned([&] { return plan_weight_gradient(engine, one); });
        if (gradient_)
            block_gradient_ = planned([&] { return plan_weight_gradient(engine, whole); });
    }

    /// Whether oneDNN has what matters.
    bool complete() const { return forward_ && gradient_; }
    std::int64_t block() const override { return std::min(block_, max_items_); }

    void pack_forward(std::span<const float> w) override {
        detail::check_weights(w.size(), weights_);
        if (forward_)
            with_onednn([&] { forward_->packing.run(stream_, w.data()); });
        else
            eigen_->pack_forward(w);
        forward_packed_ = true;
    }

    void forward(std::int64_t items, std::span<const float> x, std::span<float> y) override {
        detail::check_operands(items, max_items_, x.size(), in_, y.size(), out_);
        detail::check_packed(forward_packed_, "pack_forward");
        if (!forward_)
            return eigen_->forward(items, x, y);
        with_onednn([&] {
            for (std::int64_t i = 0; i < items; ++i) {
                forward_->operation.set(DNNL_ARG_SRC, x_.of(x.data() + i * in_, in_));
                forward_->operation.set(DNNL_ARG_DST, y.data() + i * out_);
                forward_->operation.run(stream_);
            }
        });
    }

    void pack_backward(std::span<const float> w) override {
        detail::check_weights(w.size(), weights_);
        if (backward_input_)
            with_onednn([&] { backward_input_->packing.run(stream_, w.data()); });
        if (!backward_input_ || sparse_ != nullptr)
            eigen_->pack_backward(w);
        backward_packed_ = true;
    }

    void backward_input(std::int64_t items, std::span<const float> dy, std::span<float> dx) override {
        detail::check_operands(items, max_items_, dx.size(), in_, dy.size(), out_);
        detail::check_packed(backward_packed_, "pack_backward");
        if (!backward_input_)
            return eigen_->backward_input(items, dy, dx);
        for (std::int64_t i = 0; i < items; ++i) {
            const std::span<const float> gradient = item(dy, out_, i);
            const std::span<float> image = item(dx, in_, i);
            if (sparse(gradient.data()))
                eigen_->backward_input(1, gradient, image);
            else
                with_onednn([&] { input_gradient(gradient.data(), image.data()); });
        }
    }

    void add_weight_gradient(std::int64_t items, std::span<const float> x, std::span<const float> dy,
                             std::span<float> dw) override {
        detail::check_operands(items, max_items_, x.size(), in_, dy.size(), out_);
        detail::check_weights(dw.size(), weights_);
        if (!gradient_)
            return eigen_->add_weight_gradient(items, x, dy, dw);
        for (std::int64_t i = 0; i < items;) {
            const std::int64_t count = dense_run(dy, i, items);
            if (count == 0)
                eigen_->add_weight_gradient(1, item(x, in_, i), item(dy, out_, i), dw);
            else
                with_onednn([&] {
                    (count == block_ && block_gradient_ ? *block_gradient_ : *gradient_)
                        .run(stream_, x_.of(x.data() + i * in_, count * in_),
                             dy_.of(dy.data() + i * out_, count * out_), dw.data());
                });
            i += std::max<std::int64_t>(count, 1);
        }
    }

private:
    template <typename Value>
    static std::span<Value> item(std::span<Value> values, std::int64_t count, std::int64_t index) {
        return values.subspan(static_cast<std::size_t>(index * count), static_cast<std::size_t>(count));
    }

    bool sparse(const float* dy) const { return sparse_ != nullptr && sparse_->sparse(dy); }

    void input_gradient(const float* dy, float* dx) {
        backward_input_->operation.set(DNNL_ARG_DIFF_DST, dy_.of(dy, out_));
        backward_input_->operation.set(DNNL_ARG_DIFF_SRC, dx);
        backward_input_->operation.run(stream_);
    }

    /// 0 where image `first` is sparse, a whole block where none of its images is, else 1.
    std::int64_t dense_run(std::span<const float> dy, std::int64_t first, std::int64_t items) const {
        std::int64_t count = 0;
        while (count < block_ && first + count < items && !sparse(dy.data() + (first + count) * out_))
            ++count;
        return count == block_ && block_gradient_ ? block_ : std::min<std::int64_t>(count, 1);
    }

    std::int64_t in_;  ///< values of an image
    std::int64_t out_;
    std::int64_t weights_;
    std::int64_t max_items_;
    std::int64_t block_;
    std::unique_ptr<Product> eigen_;
    const detail::EigenConvolution* sparse_;  ///< eigen_, where it has sparse adjoints
    Operand x_;
    Operand dy_;
    dnnl::stream stream_;
    std::optional<WeightedOperation> forward_;
    std::optional<WeightedOperation> backward_input_;
    std::optional<GradientOperation> gradient_;
    std::optional<GradientOperation> block_gradient_;
    bool forward_packed_ = false;
    bool backward_packed_ = false;
};

class OneDnnBackend final : public Backend {
public:
    OneDnnBackend()
        : engine_(with_onednn([] { return dnnl::engine(dnnl::engine::kind::cpu, 0); })),
          eigen_(make_eigen_backend(eigen_instruction_sets().back())) {}

    std::string_view name() const override { return "onednn"; }

    /// What the single-precision code uses; the newer sets differ in integer and bfloat16 instructions only.
    std::string_view instruction_set() const override {
        switch (dnnl::get_effective_cpu_isa()) {
            case dnnl::cpu_isa::all:
            case dnnl::cpu_isa::sse41:
                return "sse41";
            case dnnl::cpu_isa::avx:
                return "avx";
            case dnnl::cpu_isa::avx2:
            case dnnl::cpu_isa::avx2_vnni:
                return "avx2";
            default:
                return "avx512";
        }
    }

    /// Eigen's: oneDNN's matrix products are no faster at these sizes, and the bits of a row depend on where it stands.
    std::unique_ptr<Product> linear(std::int64_t in, std::int64_t out, std::int64_t max_items) const override {
        return eigen_->linear(in, out, max_items);
    }

    std::unique_ptr<Product> convolution(const ConvGeometry& geometry, std::int64_t max_items) const override {
        return std::make_unique<OneDnnConvolution>(engine_, geometry, max_items, Type::f32,
                                                   eigen_->convolution(geometry, max_items));
    }

    /// Elsewhere oneDNN imitates bfloat16, and is slower than in fp32. A group of few channels fills no register of
    /// either.
    std::unique_ptr<Product> bfloat_convolution(const ConvGeometry& geometry, std::int64_t max_items) const override {
        constexpr std::int64_t kFewChannels = 8;
        if (!has_bfloat_units() || geometry.in_channels / geometry.groups < kFewChannels)
            return nullptr;
        auto product = std::make_unique<OneDnnConvolution>(engine_, geometry, max_items, Type::bf16,
                                                           eigen_->convolution(geometry, max_items));
        return product->complete() ? std::move(product) : nullptr;
    }

private:
    static bool has_bfloat_units() {
        switch (dnnl::get_effective_cpu_isa()) {
            case dnnl::cpu_isa::avx512_core_bf16:
            case dnnl::cpu_isa::avx512_core_amx:
                return true;
            default:
                return false;
        }
    }

    dnnl::engine engine_;
    std::unique_ptr<Backend> eigen_;
};

}  // namespace

std::unique_ptr<Backend> make_onednn_backend() {
    return std::make_unique<OneDnnBackend>();
}

}  // namespace dither
