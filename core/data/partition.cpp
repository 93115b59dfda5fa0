#include "core/data/partition.hpp"

#include "core/config.hpp"
#include "core/data/dataset.hpp"
#include "core/error.hpp"
#include "core/random_subset.hpp"
#include "core/rng.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <queue>
#include <string_view>
#include <utility>

namespace dither {
namespace {

using Indices = std::vector<std::uint32_t>;

/// What is dealt, and to how many.
struct Deal {
    std::uint32_t clients = 0;
    Samples samples;
    std::uint32_t seed = 0;
};

Indices all_samples(const Deal& deal) {
    Indices all(deal.samples.count);
    std::iota(all.begin(), all.end(), 0U);
    return all;
}

/// Part k of `parts` equal ones, within one sample.
Indices equal_part(const Indices& samples, std::size_t k, std::size_t parts) {
    return {samples.begin() + static_cast<std::ptrdiff_t>(samples.size() * k / parts),
            samples.begin() + static_cast<std::ptrdiff_t>(samples.size() * (k + 1) / parts)};
}

void append(Indices& part, const Indices& more) {
    part.insert(part.end(), more.begin(), more.end());
}

/// The samples of each class.
std::vector<Indices> members_of_classes(const Deal& deal, const std::string& kind) {
    const auto& [count, labels, classes, groups] = deal.samples;
    if (labels.empty())
        throw InputError(fmt::format("federation.partition.kind = \"{}\" needs data with labels", kind));
    std::vector<Indices> members(static_cast<std::size_t>(classes));
    for (std::size_t i = 0; i < labels.size(); ++i) {
        require(labels[i] >= 0 && labels[i] < classes, "label {} of sample {} is not below {}", labels[i], i, classes);
        members[static_cast<std::size_t>(labels[i])].push_back(static_cast<std::uint32_t>(i));
    }
    return members;
}

Partition deal_equally(const PartitionOptions&, const Deal& deal, Stream& stream) {
    Indices order = all_samples(deal);
    stream.shuffle(order);
    std::vector<Indices> parts;
    for (std::size_t k = 0; k < deal.clients; ++k)
        parts.push_back(equal_part(order, k, deal.clients));
    return Partition(std::move(parts));
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

void deal_by_shares(Indices& members, double alpha, std::vector<Indices>& parts, Stream& stream) {
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

Partition deal_classes(const PartitionOptions& options, const Deal& deal, Stream& stream) {
    std::vector<Indices> parts(deal.clients);
    for (Indices& members : members_of_classes(deal, options.kind))
        deal_by_shares(members, options.alpha, parts, stream);
    fill_empty(parts);
    return Partition(std::move(parts));
}

Partition deal_quantities(const PartitionOptions& options, const Deal& deal, Stream& stream) {
    std::vector<Indices> parts(deal.clients);
    Indices all = all_samples(deal);
    deal_by_shares(all, options.alpha, parts, stream);
    fill_empty(parts);
    return Partition(std::move(parts));
}

Partition deal_shards(const PartitionOptions& options, const Deal& deal, Stream& stream) {
    const std::uint64_t shards = std::uint64_t{deal.clients} * options.shards;
    if (shards > deal.samples.count)
        throw InputError(fmt::format(
            "federation.partition.shards = {} of each of federation.clients = {} are more than the {} training samples",
            options.shards, deal.clients, deal.samples.count));
    Indices sorted;
    for (const Indices& members : members_of_classes(deal, options.kind))
        append(sorted, members);
    Indices order(shards);
    std::iota(order.begin(), order.end(), 0U);
    stream.shuffle(order);
    std::vector<Indices> parts(deal.clients);
    for (std::size_t i = 0; i < order.size(); ++i)
        append(parts[i / options.shards], equal_part(sorted, order[i], shards));
    return Partition(std::move(parts));
}

void check_classes(const PartitionOptions& options, const Deal& deal, std::size_t classes) {
    if (options.classes > classes)
        throw InputError(
            fmt::format("federation.partition.classes = {} is larger than the {} classes of the training set",
                        options.classes, classes));
    if (std::uint64_t{deal.clients} * options.classes < classes)
        throw InputError(
            fmt::format("federation.partition.classes = {} of each of federation.clients = {} leave some of "
                        "the {} classes of the training set to nobody",
                        options.classes, deal.clients, classes));
}

/// The clients of each class. A client draws from the classes that fewest have yet, so that each is had by as many as
/// any other, within one.
std::vector<Indices> draw_holders(const PartitionOptions& options, std::uint32_t clients, std::size_t classes,
                                  Stream& stream) {
    std::vector<Indices> holders(classes);
    Indices order(classes);
    for (std::uint32_t client = 0; client < clients; ++client) {
        std::iota(order.begin(), order.end(), 0U);
        stream.shuffle(order);
        std::ranges::stable_sort(order, {}, [&](std::uint32_t place) { return holders[place].size(); });
        for (std::uint32_t i = 0; i < options.classes; ++i)
            holders[order[i]].push_back(client);
    }
    return holders;
}

Partition deal_few_classes(const PartitionOptions& options, const Deal& deal, Stream& stream) {
    std::vector<Indices> members = members_of_classes(deal, options.kind);
    std::erase_if(members, [](const Indices& samples) { return samples.empty(); });
    check_classes(options, deal, members.size());
    const std::vector<Indices> holders = draw_holders(options, deal.clients, members.size(), stream);
    std::vector<Indices> parts(deal.clients);
    for (std::size_t c = 0; c < members.size(); ++c) {
        const std::size_t sharers = holders[c].size();
        if (members[c].size() < sharers)
            throw InputError(fmt::format(
                "federation.partition.classes = {} of each of federation.clients = {}: class "
                "{} has {} samples for {} clients",
                options.classes, deal.clients, deal.samples.labels[members[c].front()], members[c].size(), sharers));
        stream.shuffle(members[c]);
        for (std::size_t k = 0; k < sharers; ++k)
            append(parts[holders[c][k]], equal_part(members[c], k, sharers));
    }
    return Partition(std::move(parts));
}

Partition deal_groups(const PartitionOptions&, const Deal& deal, Stream& stream) {
    const std::span<const std::uint32_t> groups = deal.samples.groups;
    if (groups.empty())
        throw InputError("federation.partition.kind = \"natural\" needs data.groups");
    Indices order(*std::ranges::max_element(groups) + std::size_t{1});
    std::iota(order.begin(), order.end(), 0U);
    if (deal.clients > order.size())
        throw InputError(fmt::format("federation.clients = {} is larger than the {} groups of data.groups",
                                     deal.clients, order.size()));
    if (deal.clients < order.size())
        stream.shuffle(order);
    Indices client_of(order.size());
    for (std::size_t i = 0; i < order.size(); ++i)
        client_of[order[i]] = static_cast<std::uint32_t>(i % deal.clients);
    std::vector<Indices> parts(deal.clients);
    for (std::size_t i = 0; i < groups.size(); ++i)
        parts[client_of[groups[i]]].push_back(static_cast<std::uint32_t>(i));
    return Partition(std::move(parts));
}

Partition draw_for_each(const PartitionOptions& options, const Deal& deal, Stream&) {
    if (options.samples > deal.samples.count)
        throw InputError(
            fmt::format("federation.partition.samples = {} of each client are more than the {} training "
                        "samples",
                        options.samples, deal.samples.count));
    return Partition::resampled(deal.clients, options.samples, static_cast<std::uint32_t>(deal.samples.count),
                                deal.seed);
}

constexpr std::string_view kResampled = "resampled";  // the one kind that needs no sample for each client

using Dealer = Partition (*)(const PartitionOptions&, const Deal&, Stream&);

constexpr std::array kPartitions{
    ChoiceRow<Dealer>{"iid", "a random permutation cut into equal parts", deal_equally},
    ChoiceRow<Dealer>{"dirichlet", "each class by shares drawn from Dirichlet(alpha)", deal_classes},
    ChoiceRow<Dealer>{"shards", "`shards` pieces each of the samples in the order of their labels", deal_shards},
    ChoiceRow<Dealer>{"pathological", "`classes` classes each, every class evenly among those that have it",
                      deal_few_classes},
    ChoiceRow<Dealer>{"quantity", "at random, but of sizes drawn from Dirichlet(alpha)", deal_quantities},
    ChoiceRow<Dealer>{"natural", "by the groups of data.groups", deal_groups},
    ChoiceRow<Dealer>{kResampled,
                      "`samples` of all, drawn for each client alone: there may be more clients than samples",
                      draw_for_each},
};

}  // namespace

std::vector<Choice> partition_choices() {
    return choices_of(kPartitions);
}

Partition::Partition(std::vector<std::vector<std::uint32_t>> parts)
    : clients_(static_cast<std::uint32_t>(parts.size())), offsets_{0} {
    for (Indices& part : parts) {
        if (part.empty())
            throw InputError(
                fmt::format("federation.partition.kind leaves client {} without samples", &part - parts.data()));
        std::ranges::sort(part);
        append(indices_, part);
        offsets_.push_back(indices_.size());
    }
}

Partition Partition::resampled(std::uint32_t clients, std::uint32_t size, std::uint32_t samples, std::uint32_t seed) {
    require(size >= 1 && size <= samples, "clients draw {} of {} samples", size, samples);
    return {clients, {.size = size, .samples = samples, .seed = seed}};
}

std::size_t Partition::size_of(std::uint32_t client) const {
    require(client < clients_, "client {} of a partition among {}", client, clients_);
    return offsets_.empty() ? draw_.size : offsets_[client + 1] - offsets_[client];
}

std::vector<std::uint32_t> Partition::of(std::uint32_t client) const {
    const std::size_t size = size_of(client);
    if (offsets_.empty()) {
        Stream stream({.seed = draw_.seed, .purpose = Purpose::partition, .client = client});
        return random_subset(stream, draw_.samples, draw_.size);
    }
    const auto own = std::span(indices_).subspan(offsets_[client], size);
    return {own.begin(), own.end()};
}

Partition make_partition(const PartitionOptions& options, std::uint32_t clients, const Samples& samples,
                         std::uint32_t seed) {
    const auto& [count, labels, classes, groups] = samples;
    require(clients > 0, "a partition is among at least one client");
    require(labels.empty() || labels.size() == count, "{} labels for {} samples", labels.size(), count);
    require(groups.empty() || groups.size() == count, "{} groups for {} samples", groups.size(), count);
    if (clients > count && options.kind != kResampled)
        throw InputError(
            fmt::format("federation.clients = {} is larger than the training set of {} samples; "
                        "federation.partition.kind = \"{}\" draws samples for any number of clients",
                        clients, count, kResampled));
    Stream stream({.seed = seed, .purpose = Purpose::partition});
    const auto deal = choose(kPartitions, "federation.partition.kind", options.kind);
    return deal(options, {clients, samples, seed}, stream);
}

Partition make_partition(const PartitionOptions& options, std::uint32_t clients, const Dataset& data,
                         std::uint32_t seed) {
    return make_partition(options, clients, Samples{data.size(), data.labels(), data.classes(), data.groups()}, seed);
}

}  // namespace dither
