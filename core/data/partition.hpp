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

class Dataset;

/// What is dealt.
struct Samples {
    std::size_t count = 0;
    std::span<const std::int32_t> labels;  ///< [count], 0 .. classes - 1; empty where there are none
    int classes = 0;
    std::span<const std::uint32_t>
        groups;  ///< [count], 0 .. groups - 1, each of which occurs; empty where there are none
};

/// iid: a random permutation cut into equal parts.
/// dirichlet: each class is dealt to the clients by proportions drawn from Dirichlet(alpha) (Yurochkin et al.,
/// "Bayesian nonparametric federated learning of neural networks", ICML 2019); a client that drew nothing
/// takes one sample from the client that has most, the lowest of several.
/// shards: the samples in the order of their labels are cut into clients * shards equal parts, of which each client
/// gets `shards` at random (McMahan et al., "Communication-efficient learning of deep networks from decentralized
/// data", AISTATS 2017). pathological: each client has `classes` different classes, drawn among those that fewest
/// clients have yet; the samples of a class are dealt evenly to those that have it (#C = k of Li, Diao, Chen, He,
/// "Federated learning on non-IID data silos: an experimental study", ICDE 2022, with as many clients for each class,
/// within one). quantity: a random permutation cut by proportions drawn from Dirichlet(alpha), so that sizes differ and
/// classes do not (q ~ Dir(alpha) of the same study); who drew nothing takes one sample as above. natural: client k has
/// group k; where there are fewer clients than groups, the groups are dealt to them in turn, in a random order.
///
/// A pure function of its arguments, so every rank computes the same one. Throws InputError that names the keys on
/// another kind, on more clients than samples, without the labels or groups that a kind deals, and on numbers that
/// cannot be met: fewer samples than shards, fewer classes than a client should have, classes that nobody would have or
/// with fewer samples than clients, fewer groups than clients. To add a kind: its function and its row in the table of
/// partition.cpp.
Partition make_partition(const PartitionOptions& options, std::uint32_t clients, const Samples& samples,
                         std::uint32_t seed);
Partition make_partition(const PartitionOptions& options, std::uint32_t clients, const Dataset& data,
                         std::uint32_t seed);
std::vector<Choice> partition_choices();

}  // namespace dither
