#include "core/data/partition.hpp"

#include "core/config.hpp"
#include "core/error.hpp"
#include "core/rng.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <queue>
#include <utility>

namespace dither {
namespace {

using Indices = std::vector<std::uint32_t>;

Partition join(std::vector<Indices> parts) {
    Partition partition;
    partition.offsets.push_back(0);
    for (Indices& part : parts) {
        std::sort(part.begin(), part.end());
        partition.indices.insert(partition.indices.end(), part.begin(), part.end());
        partition.offsets.push_back(partition.indices.size());
    }
    return partition;
}

/// What is dealt, and to how many.
struct Deal {
    std::uint32_t clients = 0;
    std::size_t samples = 0;
    std::span<const std::int32_t> labels;
    int classes = 0;
};

std::vector<Indices> deal_equally(const PartitionOptions&, const Deal& deal, Stream& stream) {
    const std::size_t samples = deal.samples;
    Indices order(samples);
    std::iota(order.begin(), order.end(), 0U);
    stream.shuffle(order);
    const std::size_t clients = deal.clients;
    std::vector<Indices> parts(clients);
    for (std::size_t k = 0; k < clients; ++k)
        parts[k].assign(order.begin() + static_cast<std::ptrdiff_t>(samples * k / clients),
                        order.begin() + static_cast<std::ptrdiff_t>(samples * (k + 1) / clients));
    return parts;
}

/// A Gamma(shape) variate for shape >= 1: Marsaglia and Tsang, "A simple method for generating gamma variables", 2000.
double draw_gamma(double shape, Stream& stream) {
    const double d = shape - 1.0 / 3;
    const double c = 1 / std::sqrt(9 * d);
    for (;;) {
        const double x = stream.normal();
        const double v = std::pow(1 + c * x, 3);
        const double u = 1.0 - stream.uniform();  // in (0, 1]
        if (v > 0 && std::log(u) < x * x / 2 + d - d * v + d * std::log(v))
            return d * v;
    }
}

/// Dirichlet(alpha, ..., alpha): gamma variates divided by their sum. In logarithms, where the variates of a small
/// alpha do not vanish: ln G(alpha) = ln G(alpha + 1) + ln(U) / alpha.
std::vector<double> draw_dirichlet(double alpha, std::uint32_t count, Stream& stream) {
    std::vector<double> shares(count);
    for (double& share : shares) {
        share = std::log(draw_gamma(alpha + 1, stream));
        share += std::log(1.0 - stream.uniform()) / alpha;
    }
    const double largest = *std::max_element(shares.begin(), shares.end());
    double sum = 0;
    for (double& share : shares)
        sum += share = std::exp(share - largest);
    for (double& share : shares)
        share /= sum;
    return shares;
}

void deal_class(Indices& members, double alpha, std::vector<Indices>& parts, Stream& stream) {
    stream.shuffle(members);
    const std::vector<double> shares = draw_dirichlet(alpha, static_cast<std::uint32_t>(parts.size()), stream);
    double dealt_share = 0;
    std::size_t dealt = 0;
    for (std::size_t k = 0; k < parts.size(); ++k) {
        dealt_share += shares[k];
        const auto cut = static_cast<std::size_t>(dealt_share * static_cast<double>(members.size()));
        const std::size_t end = k + 1 == parts.size() ? members.size() : std::min(cut, members.size());
        parts[k].insert(parts[k].end(), members.begin() + static_cast<std::ptrdiff_t>(dealt),
                        members.begin() + static_cast<std::ptrdiff_t>(end));
        dealt = end;
    }
}

/// Each client that drew nothing takes a sample from the one that has most, the lowest of several: a client without
/// samples has nothing to train on. There are at least as many samples as clients, so the giver keeps some.
void fill_empty(std::vector<Indices>& parts) {
    std::priority_queue<std::pair<std::size_t, std::size_t>> largest;  // size, and the complement of the client
    for (std::size_t k = 0; k < parts.size(); ++k)
        largest.emplace(parts[k].size(), ~k);
    for (Indices& part : parts) {
        if (!part.empty())
            continue;
        const auto [size, client] = largest.top();
        largest.pop();
        largest.emplace(size - 1, client);
        part.push_back(parts[~client].back());
        parts[~client].pop_back();
    }
}

std::vector<Indices> deal_classes(const PartitionOptions& options, const Deal& deal, Stream& stream) {
    const std::span<const std::int32_t> labels = deal.labels;
    const int classes = deal.classes;
    if (labels.empty())
        throw InputError("federation.partition.kind = \"dirichlet\" needs data with labels");
    std::vector<Indices> members(static_cast<std::size_t>(classes));
    for (std::size_t i = 0; i < labels.size(); ++i) {
        require(labels[i] >= 0 && labels[i] < classes, "label {} of sample {} is not below {}", labels[i], i, classes);
        members[static_cast<std::size_t>(labels[i])].push_back(static_cast<std::uint32_t>(i));
    }
    std::vector<Indices> parts(deal.clients);
    for (Indices& of_class : members)
        deal_class(of_class, options.alpha, parts, stream);
    fill_empty(parts);
    return parts;
}

using Dealer = std::vector<Indices> (*)(const PartitionOptions&, const Deal&, Stream&);

constexpr std::array kPartitions{
    ChoiceRow<Dealer>{"iid", "a random permutation cut into equal parts", deal_equally},
    ChoiceRow<Dealer>{"dirichlet", "each class by shares drawn from Dirichlet(alpha)", deal_classes},
};

}  // namespace

std::vector<Choice> partition_choices() {
    return choices_of(kPartitions);
}

std::span<const std::uint32_t> Partition::of(std::uint32_t client) const {
    require(client < clients(), "client {} of a partition among {}", client, clients());
    return std::span(indices).subspan(offsets[client], offsets[client + 1] - offsets[client]);
}

Partition make_partition(const PartitionOptions& options, std::uint32_t clients, std::size_t samples,
                         std::span<const std::int32_t> labels, int classes, std::uint32_t seed) {
    require(clients > 0, "a partition is among at least one client");
    require(labels.empty() || labels.size() == samples, "{} labels for {} samples", labels.size(), samples);
    if (clients > samples)
        throw InputError(
            fmt::format("federation.clients = {} is larger than the training set of {} samples", clients, samples));
    Stream stream({.seed = seed, .purpose = Purpose::partition});
    const auto deal = choose(kPartitions, "federation.partition.kind", options.kind);
    return join(deal(options, {clients, samples, labels, classes}, stream));
}

}  // namespace dither
