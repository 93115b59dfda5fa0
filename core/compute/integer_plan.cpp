#include "core/compute/detail/integer_products.hpp"

#include <algorithm>

namespace dither::detail {

template <typename Kernels>
void IntegerPlan<Kernels>::add_run(std::int64_t group, std::int64_t offset, std::int64_t step,
                                   std::span<const std::int64_t> run) {
    const auto count = static_cast<std::int64_t>(run.size());
    for (std::int64_t i = 0; i < count; i += group)
        groups.push_back(offset + i * step);
    sources.insert(sources.end(), run.begin(), run.end());
    sources.resize(groups.size() * static_cast<std::size_t>(group), -1);
}

template <typename Kernels>
std::int64_t IntegerPlan<Kernels>::width(const Kernels& kernels, std::int64_t channels) const {
    return (channels + kernels.panel - 1) / kernels.panel * kernels.panel;
}

template <typename Kernels>
void IntegerPlan<Kernels>::reserve(const Kernels& kernels, std::int64_t channels, std::int64_t sections) {
    const auto all = static_cast<std::size_t>(sections * width(kernels, channels));
    packed.resize(all * sources.size());
    if (!Kernels::kCentred) {
        channel_sums.resize(all);
        excess.resize(rows.size());
    }
}

template <typename Kernels>
void IntegerPlan<Kernels>::set_excess(std::int32_t value) {
    std::ranges::fill(excess, value);
}

template <typename Kernels>
void IntegerPlan<Kernels>::pack(const Kernels& kernels, const IntegerPacking& packing, std::int64_t section) {
    const std::int64_t first = section * width(kernels, packing.channels);
    kernels.pack(packing, packed.data() + first * static_cast<std::int64_t>(sources.size()),
                 Kernels::kCentred ? nullptr : channel_sums.data() + first);
}

template <typename Kernels>
void IntegerPlan<Kernels>::multiply(const Kernels& kernels, const Row* base, std::int64_t row_count,
                                    std::int64_t group_count, std::int64_t channels, std::int32_t* out, bool accumulate,
                                    bool by_channel, std::int64_t section) const {
    const std::int64_t first = section * width(kernels, channels);
    (by_channel ? kernels.multiply_channels : kernels.multiply)(
        {base, row_count, rows.data(), group_count, groups.data(),
         packed.data() + first * static_cast<std::int64_t>(sources.size()), channels, out, outputs.data(), accumulate,
         Kernels::kCentred ? nullptr : excess.data(), Kernels::kCentred ? nullptr : channel_sums.data() + first});
}

template struct IntegerPlan<WordKernels>;
template struct IntegerPlan<ByteKernels>;

}  // namespace dither::detail
