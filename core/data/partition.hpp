// How a training set is dealt to clients.
#pragma once

#include "core/choice.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace dither {

struct PartitionOptions;

/// Which samples of the training set each client has: at least one, each at most once. Immutable.
class Partition {
public:
    /// Client k has the samples parts[k].
    explicit Partition(std::vector<std::vector<std::uint32_t>> parts);
    /// Each of `clients` has `size` different ones of `samples`, drawn by the seed and the client when they are asked
    /// for: no memory. 1 <= size <= samples.
    static Partition resampled(std::uint32_t clients, std::uint32_t size, std::uint32_t samples, std::uint32_t seed);

    std::uint32_t clients() const { return clients_; }
    std::size_t size_of(std::uint32_t client) const;
    /// Ascending.
    std::vector<std::uint32_t> of(std::uint32_t client) const;

private:
    /// What every client draws.
    struct Draw {
        std::uint32_t size = 0;
        std::uint32_t samples = 0;
        std::uint32_t seed = 0;
    };

    Partition(std::uint32_t clients, const Draw& draw) : clients_(clients), draw_(draw) {}

    std::uint32_t clients_ = 0;
    Draw draw_;                           ///< where nothing is dealt
    std::vector<std::uint32_t> indices_;  ///< indices_[offsets_[k] .. offsets_[k + 1]]: client k's, ascending
    std::vector<std::size_t> offsets_;    ///< empty: clients draw
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
/// resampled: each client has `samples` different ones of the training set, drawn at random for it alone: there may be
/// many more clients than samples.
///
/// A pure function of its arguments, so every rank computes the same one. Throws InputError that names the keys on
/// another kind, on more clients than samples (but for resampled), without the labels or groups that a kind deals, and
/// on numbers that cannot be met: fewer samples than shards or than a client draws, fewer classes than a client should
/// have, classes that nobody would have or with fewer samples than clients, fewer groups than clients, and a client
/// without samples. To add a kind: its function and its row in the table of partition.cpp.
Partition make_partition(const PartitionOptions& options, std::uint32_t clients, const Samples& samples,
                         std::uint32_t seed);
Partition make_partition(const PartitionOptions& options, std::uint32_t clients, const Dataset& data,
                         std::uint32_t seed);
std::vector<Choice> partition_choices();

}  // namespace dither
