#include "core/compute/eigen_backend.hpp"

#include "core/detail/kernels.hpp"
#include "core/error.hpp"

#include <algorithm>

namespace dither {
namespace detail {

extern const Kernels kBaselineKernels;
#ifdef DITHER_X86_KERNELS
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
#endif

}  // namespace detail

namespace {

using detail::Kernels;

/// Slowest first.
std::vector<const Kernels*> usable_kernels() {
    std::vector<const Kernels*> usable{&detail::kBaselineKernels};
#ifdef DITHER_X86_KERNELS
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                      __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                        __builtin_cpu_supports("avx512vl");
    if (avx2)
        usable.push_back(&detail::kAvx2Kernels);
    if (avx512)
        usable.push_back(&detail::kAvx512Kernels);
#endif
    return usable;
}

void check_sizes(std::int64_t batch, std::int64_t max_batch, std::size_t x, std::int64_t in, std::size_t y,
                 std::int64_t out) {
    require(batch >= 0 && batch <= max_batch, "a product planned for {} samples got {}", max_batch, batch);
    require(x == static_cast<std::size_t>(batch * in), "expected {} input values, got {}", batch * in, x);
    require(y == static_cast<std::size_t>(batch * out), "expected {} output values, got {}", batch * out, y);
}

void check_weights(std::size_t w, std::int64_t expected) {
    require(w == static_cast<std::size_t>(expected), "expected {} weights, got {}", expected, w);
}

void check_bias(std::size_t bias, std::int64_t channels) {
    require(bias == 0 || bias == static_cast<std::size_t>(channels), "expected {} biases or none, got {}", channels,
            bias);
}

class EigenLinear final : public Product {
public:
    EigenLinear(const Kernels& kernels, std::int64_t in, std::int64_t out, std::int64_t max_batch)
        : kernels_(kernels), in_(in), out_(out), max_batch_(max_batch) {}

    void forward(std::int64_t batch, std::span<const float> x, std::span<const float> w, std::span<const float> bias,
                 std::span<float> y) override {
        check_sizes(batch, max_batch_, x.size(), in_, y.size(), out_);
        check_weights(w.size(), in_ * out_);
        check_bias(bias.size(), out_);
        kernels_.affine(batch, out_, in_, x.data(), w.data(), bias.empty() ? nullptr : bias.data(), y.data());
    }

    void backward_input(std::int64_t batch, std::span<const float> dy, std::span<const float> w,
                        std::span<float> dx) override {
        check_sizes(batch, max_batch_, dx.size(), in_, dy.size(), out_);
        check_weights(w.size(), in_ * out_);
        kernels_.times_transposed(batch, in_, out_, dy.data(), w.data(), dx.data());
    }

    void backward_weights(std::int64_t batch, std::span<const float> x, std::span<const float> dy,
                          std::span<float> dw) override {
        check_sizes(batch, max_batch_, x.size(), in_, dy.size(), out_);
        check_weights(dw.size(), in_ * out_);
        std::ranges::fill(dw, 0.0F);
        kernels_.add_transposed_times(in_, out_, batch, x.data(), dy.data(), dw.data());
    }

private:
    const Kernels& kernels_;
    std::int64_t in_;
    std::int64_t out_;
    std::int64_t max_batch_;
};

/// Where fewer values of dy than this share are not zero, the sparse adjoints are faster than the matrix products.
constexpr double kSparseShare = 0.3;
/// They work on runs of kernel * channels values, which must be worth a few vectors.
constexpr std::int64_t kSparseRun = 16;

/// One image at a time, so that its patches stay in the second-level cache: with patches P of image x, y = P w,
/// dw = sum over images of P^T dy, and dx scatters dy w^T.
class EigenConvolution final : public Product {
public:
    EigenConvolution(const Kernels& kernels, const ConvGeometry& g, std::int64_t max_batch)
        : kernels_(kernels),
          geometry_{g.in_height, g.in_width, g.in_channels, g.out_height(), g.out_width(),
                    g.kernel,    g.stride,   g.padding,     g.out_channels},
          image_(g.in_height * g.in_width * g.in_channels),
          positions_(g.out_height() * g.out_width()),
          taps_(g.kernel * g.kernel * g.in_channels),
          channels_(g.out_channels),
          max_batch_(max_batch) {
        const std::int64_t padded = (g.in_height + 2 * g.padding) * (g.in_width + 2 * g.padding) * g.in_channels;
        padded_.resize(static_cast<std::size_t>(padded + detail::kPatchSlack));
        patches_.resize(static_cast<std::size_t>(positions_ * taps_ + detail::kPatchSlack));
        transposed_.resize(static_cast<std::size_t>(taps_ * channels_));
    }

    void forward(std::int64_t batch, std::span<const float> x, std::span<const float> w, std::span<const float> bias,
                 std::span<float> y) override {
        check_sizes(batch, max_batch_, x.size(), image_, y.size(), positions_ * channels_);
        check_weights(w.size(), taps_ * channels_);
        check_bias(bias.size(), channels_);
        for (std::int64_t i = 0; i < batch; ++i) {
            kernels_.gather_patches(geometry_, x.data() + i * image_, padded_.data(), patches_.data());
            kernels_.affine(positions_, channels_, taps_, patches_.data(), w.data(),
                            bias.empty() ? nullptr : bias.data(), y.data() + i * positions_ * channels_);
        }
    }

    void backward_input(std::int64_t batch, std::span<const float> dy, std::span<const float> w,
                        std::span<float> dx) override {
        check_sizes(batch, max_batch_, dx.size(), image_, dy.size(), positions_ * channels_);
        check_weights(w.size(), taps_ * channels_);
        for (std::int64_t tap = 0; tap < taps_; ++tap)
            for (std::int64_t c = 0; c < channels_; ++c)
                transposed_[c * taps_ + tap] = w[tap * channels_ + c];
        for (std::int64_t i = 0; i < batch; ++i)
            image_gradient(dy.data() + i * positions_ * channels_, w.data(), dx.data() + i * image_);
    }

    void backward_weights(std::int64_t batch, std::span<const float> x, std::span<const float> dy,
                          std::span<float> dw) override {
        check_sizes(batch, max_batch_, x.size(), image_, dy.size(), positions_ * channels_);
        check_weights(dw.size(), taps_ * channels_);
        std::ranges::fill(dw, 0.0F);
        std::ranges::fill(transposed_, 0.0F);
        for (std::int64_t i = 0; i < batch; ++i)
            add_weight_gradient(x.data() + i * image_, dy.data() + i * positions_ * channels_, dw.data());
        for (std::int64_t tap = 0; tap < taps_; ++tap)
            for (std::int64_t c = 0; c < channels_; ++c)
                dw[tap * channels_ + c] += transposed_[c * taps_ + tap];
    }

private:
    bool sparse(const float* dy) const {
        const std::int64_t count = positions_ * channels_;
        return geometry_.kernel * geometry_.channels >= kSparseRun &&
               static_cast<double>(kernels_.count_nonzero(dy, count)) < kSparseShare * static_cast<double>(count);
    }

    /// transposed_ holds w^T.
    void image_gradient(const float* dy, const float* w, float* dx) {
        if (sparse(dy)) {
            kernels_.scatter_sparse(geometry_, dy, transposed_.data(), padded_.data(), dx);
            return;
        }
        kernels_.times_transposed(positions_, taps_, channels_, dy, w, patches_.data());
        kernels_.scatter_patches(geometry_, patches_.data(), padded_.data(), dx);
    }

    /// Adds to dw, or to its transpose in transposed_.
    void add_weight_gradient(const float* x, const float* dy, float* dw) {
        if (sparse(dy)) {
            kernels_.add_sparse_weights(geometry_, x, dy, padded_.data(), transposed_.data());
            return;
        }
        kernels_.gather_patches(geometry_, x, padded_.data(), patches_.data());
        kernels_.add_transposed_times(taps_, channels_, positions_, patches_.data(), dy, dw);
    }

    const Kernels& kernels_;
    detail::PatchGeometry geometry_;
    std::int64_t image_;      ///< values of an image
    std::int64_t positions_;  ///< of the kernel
    std::int64_t taps_;
    std::int64_t channels_;
    std::int64_t max_batch_;
    AlignedFloats padded_;
    AlignedFloats patches_;
    AlignedFloats transposed_;  ///< weights or their gradient, output channels first
};

class EigenBackend final : public Backend {
public:
    explicit EigenBackend(const Kernels& kernels) : kernels_(kernels) {}

    std::string_view name() const override { return "eigen"; }
    std::string_view instruction_set() const override { return kernels_.instruction_set; }

    std::unique_ptr<Product> linear(std::int64_t in, std::int64_t out, std::int64_t max_batch) const override {
        require(in > 0 && out > 0 && max_batch > 0, "linear [{}, {}] for {} samples: all must be positive", in, out,
                max_batch);
        return std::make_unique<EigenLinear>(kernels_, in, out, max_batch);
    }

    std::unique_ptr<Product> convolution(const ConvGeometry& g, std::int64_t max_batch) const override {
        require(
            g.in_channels > 0 && g.out_channels > 0 && g.kernel > 0 && g.stride > 0 && g.padding >= 0 && max_batch > 0,
            "a convolution's channels, kernel, stride and batch must be positive");
        require(g.in_height + 2 * g.padding >= g.kernel && g.in_width + 2 * g.padding >= g.kernel,
                "a {}x{} image with padding {} is smaller than the {}x{} kernel", g.in_height, g.in_width, g.padding,
                g.kernel, g.kernel);
        return std::make_unique<EigenConvolution>(kernels_, g, max_batch);
    }

private:
    const Kernels& kernels_;
};

}  // namespace

std::vector<std::string_view> eigen_instruction_sets() {
    std::vector<std::string_view> names;
    for (const Kernels* kernels : usable_kernels())
        names.emplace_back(kernels->instruction_set);
    return names;
}

std::unique_ptr<Backend> make_eigen_backend(std::string_view instruction_set) {
    for (const Kernels* kernels : usable_kernels())
        if (instruction_set == kernels->instruction_set)
            return std::make_unique<EigenBackend>(*kernels);
    throw PreconditionError(fmt::format("no Eigen kernels for instruction set \"{}\" here", instruction_set));
}

}  // namespace dither
