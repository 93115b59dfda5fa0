#include "core/compute/eigen_backend.hpp"

#include "core/compute/detail/eigen_products.hpp"
#include "core/detail/processor.hpp"
#include "core/error.hpp"

namespace dither {
namespace detail {

extern const Kernels kBaselineKernels;
#ifdef DITHER_X86_KERNELS
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
#endif

std::vector<const Kernels*> usable_kernels() {
    std::vector<const Kernels*> usable{&kBaselineKernels};
#ifdef DITHER_X86_KERNELS
    if (has_avx2())
        usable.push_back(&kAvx2Kernels);
    if (has_avx512())
        usable.push_back(&kAvx512Kernels);
#endif
    return usable;
}

}  // namespace detail

namespace {

using detail::Kernels;

class EigenBackend final : public Backend {
public:
    explicit EigenBackend(const Kernels& kernels) : kernels_(kernels) {}

    std::string_view name() const override { return "eigen"; }
    std::string_view instruction_set() const override { return kernels_.instruction_set; }

    std::unique_ptr<Product> linear(std::int64_t in, std::int64_t out, std::int64_t max_items) const override {
        require(in > 0 && out > 0 && max_items > 0, "linear [{}, {}] for {} items: all must be positive", in, out,
                max_items);
        return std::make_unique<detail::EigenLinear>(kernels_, in, out, max_items);
    }

    std::unique_ptr<Product> convolution(const ConvGeometry& g, std::int64_t max_items) const override {
        g.check();
        require(max_items > 0, "a convolution for {} items: expected at least one", max_items);
        if (g.groups == 1)
            return std::make_unique<detail::EigenConvolution>(kernels_, g, max_items);
        if (g.groups == g.in_channels && g.groups == g.out_channels)
            return std::make_unique<detail::EigenDepthwise>(kernels_, g, max_items);
        return std::make_unique<detail::GroupedConvolution>(kernels_, g, max_items);
    }

private:
    const Kernels& kernels_;
};

}  // namespace

std::vector<std::string_view> eigen_instruction_sets() {
    std::vector<std::string_view> names;
    for (const Kernels* kernels : detail::usable_kernels())
        names.emplace_back(kernels->instruction_set);
    return names;
}

std::unique_ptr<Backend> make_eigen_backend(std::string_view instruction_set) {
    for (const Kernels* kernels : detail::usable_kernels())
        if (instruction_set == kernels->instruction_set)
            return std::make_unique<EigenBackend>(*kernels);
    throw PreconditionError(fmt::format("no Eigen kernels for instruction set \"{}\" here", instruction_set));
}

}  // namespace dither
