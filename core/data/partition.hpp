// How a training set is dealt to clients.
#pragma once

#include "core/choice.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace dither {

struct PartitionOptions;

/// indices[offsets[k] .. offsets[k + 1]] are client k's samples, ascending. Every client has at least one.
struct Partition {
    std::vector<std::uint32_t> indices;
    std::vector<std::size_t> offsets;

    std::size_t clients() const { return offsets.size() - 1; }
    std::span<const std::uint32_t> of(std::uint32_t client) const;
};

/// iid: a random permutation cut into equal parts.
/// dirichlet: each class is dealt to the clients by proportions drawn from Dirichlet(alpha) (Yurochkin et al.,
/// "Bayesian nonparametric federated learning of neural networks", ICML 2019); a client that drew nothing
/// takes one sample from the client that has most, the lowest of several. A pure function of its arguments, so
/// every rank computes the same one. `samples` is the size of the training set; `labels` may be empty for iid. Throws
/// InputError on another kind, on more clients than samples or on dirichlet without labels. To add a kind: its function
/// and its row in the table of partition.cpp.
Partition make_partition(const PartitionOptions& options, std::uint32_t clients, std::size_t samples,
                         std::span<const std::int32_t> labels, int classes, std::uint32_t seed);
std::vector<Choice> partition_choices();

}  // namespace dither
