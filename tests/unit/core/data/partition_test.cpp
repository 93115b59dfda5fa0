#include "core/data/partition.hpp"

#include "core/config.hpp"
#include "core/error.hpp"
#include "core/sha256.hpp"

#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

using dither::make_partition;
using dither::Partition;
using dither::PartitionOptions;

namespace {

std::vector<std::int32_t> cyclic_labels(std::size_t samples, int classes) {
    std::vector<std::int32_t> labels(samples);
    for (std::size_t i = 0; i < samples; ++i)
        labels[i] = static_cast<std::int32_t>(i % static_cast<std::size_t>(classes));
    return labels;
}

/// Every sample belongs to one client, no client is without, and each client's samples ascend.
bool deals_all_to_all(const Partition& partition, std::uint32_t clients, std::size_t samples) {
    if (partition.clients() != clients)
        return false;
    std::vector<int> seen(samples);
    for (std::uint32_t k = 0; k < clients; ++k) {
        const auto part = partition.of(k);
        if (part.empty() || !std::is_sorted(part.begin(), part.end()))
            return false;
        for (const std::uint32_t i : part)
            ++seen.at(i);
    }
    return std::all_of(seen.begin(), seen.end(), [](int times) { return times == 1; });
}

/// The share of samples that are of the commonest class of their client.
double skew_of(const Partition& partition, std::span<const std::int32_t> labels, std::size_t classes) {
    std::size_t commonest = 0;
    for (std::uint32_t k = 0; k < partition.clients(); ++k) {
        std::vector<std::size_t> counts(classes);
        for (const std::uint32_t i : partition.of(k))
            ++counts[static_cast<std::size_t>(labels[i])];
        commonest += *std::max_element(counts.begin(), counts.end());
    }
    return static_cast<double>(commonest) / static_cast<double>(labels.size());
}

std::string fingerprint(const Partition& partition) {
    std::string text;
    for (std::uint32_t k = 0; k < partition.clients(); ++k) {
        for (const std::uint32_t i : partition.of(k))
            text += std::to_string(i) + ' ';
        text += '\n';
    }
    return dither::to_hex(dither::sha256(text));
}

}  // namespace

TEST_SUITE("core/data/partition") {
    TEST_CASE("every sample is dealt to exactly one client, and every client has one") {
        CHECK(rc::check([](const std::uint32_t seed) {
            const auto clients = *rc::gen::inRange<std::uint32_t>(1, 40);
            const auto samples = *rc::gen::inRange<std::size_t>(clients, 400);
            const auto classes = *rc::gen::inRange(1, 12);
            const auto alpha = *rc::gen::element(1e-6, 0.01, 0.5, 1.0, 100.0, 1e9);
            const auto kind = *rc::gen::element<std::string>("iid", "dirichlet");
            const auto labels = cyclic_labels(samples, classes);
            const Partition partition = make_partition({kind, alpha}, clients, samples, labels, classes, seed);
            RC_ASSERT(deals_all_to_all(partition, clients, samples));
        }));
    }

    TEST_CASE("iid parts have equal sizes, within one sample") {
        const Partition partition = make_partition({"iid"}, 7, 100, {}, 0, 1);
        for (std::uint32_t k = 0; k < 7; ++k)
            CHECK((partition.of(k).size() == 14 || partition.of(k).size() == 15));
        CHECK_THROWS_AS(partition.of(7), dither::PreconditionError);
    }

    TEST_CASE("clients that drew nothing each take a sample from the one that has most") {
        // With alpha this small one client draws all of the only class.
        const auto labels = cyclic_labels(10, 1);
        const Partition partition = make_partition({"dirichlet", 1e-6}, 4, 10, labels, 1, 5);
        std::vector<std::size_t> sizes;
        for (std::uint32_t k = 0; k < 4; ++k)
            sizes.push_back(partition.of(k).size());
        std::ranges::sort(sizes);
        CHECK(sizes == std::vector<std::size_t>{1, 1, 1, 7});
    }

    TEST_CASE("the parts are a pure function of the seed and the options") {
        const auto labels = cyclic_labels(1000, 10);
        CHECK(fingerprint(make_partition({"iid"}, 10, 1000, labels, 10, 1)) ==
              "b83835440debaf707ea7a712def9363385243d25fb2b3537e9038a1ee8bb622d");
        CHECK(fingerprint(make_partition({"dirichlet", 0.5}, 10, 1000, labels, 10, 1)) ==
              "d24036755fa272eb6c6d20c4eb69aa85774bbc93908d94ead8d6b927840f1443");
        CHECK(fingerprint(make_partition({"iid"}, 10, 1000, labels, 10, 2)) !=
              fingerprint(make_partition({"iid"}, 10, 1000, labels, 10, 1)));
    }

    TEST_CASE("a small alpha gives each client few classes, a large one all of them") {
        const auto labels = cyclic_labels(60'000, 10);
        const auto skew = [&](double alpha) {
            return skew_of(make_partition({"dirichlet", alpha}, 50, labels.size(), labels, 10, 3), labels, 10);
        };
        CHECK(skew(0.01) > 0.85);
        CHECK(skew(0.5) > 0.25);
        CHECK(skew(0.5) < 0.6);
        CHECK(skew(1e4) < 0.12);
    }

    TEST_CASE("shares have the mean and the variance of Dirichlet's distribution") {
        constexpr std::uint32_t kClients = 20;
        constexpr int kClasses = 400;
        constexpr std::size_t kOfEach = 1000;
        const auto labels = cyclic_labels(kClasses * kOfEach, kClasses);
        for (const double alpha : {0.1, 0.5, 2.0}) {
            const Partition partition =
                make_partition({"dirichlet", alpha}, kClients, labels.size(), labels, kClasses, 4);
            double squares = 0;
            for (std::uint32_t k = 0; k < kClients; ++k) {
                std::vector<double> counts(kClasses);
                for (const std::uint32_t i : partition.of(k))
                    ++counts[static_cast<std::size_t>(labels[i])];
                for (const double count : counts)
                    squares += std::pow(count / kOfEach - 1.0 / kClients, 2);
            }
            // Var = (1/K)(1 - 1/K) / (K alpha + 1)
            const double variance = (1.0 / kClients) * (1 - 1.0 / kClients) / (kClients * alpha + 1);
            CHECK(squares / (kClients * kClasses) == doctest::Approx(variance).epsilon(0.1));
        }
    }

    TEST_CASE("what cannot be dealt is refused with its numbers") {
        CHECK_THROWS_WITH_AS(make_partition({"iid"}, 11, 10, {}, 0, 1),
                             "federation.clients = 11 is larger than the training set of 10 samples",
                             dither::InputError);
        CHECK_THROWS_AS(make_partition({"dirichlet"}, 2, 10, {}, 0, 1), dither::InputError);
        CHECK_THROWS_AS(make_partition({"sorted"}, 2, 10, {}, 0, 1), dither::InputError);
        const std::vector<std::int32_t> labels{0, 1, 2};
        CHECK_THROWS_AS(make_partition({"dirichlet"}, 2, 3, labels, 2, 1), dither::PreconditionError);
        CHECK_THROWS_AS(make_partition({"iid"}, 2, 4, labels, 3, 1), dither::PreconditionError);
    }
}
