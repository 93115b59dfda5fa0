#include "core/data/partition.hpp"

#include "core/config.hpp"
#include "core/data/dataset.hpp"
#include "core/error.hpp"
#include "core/sha256.hpp"
#include "tests/unit/temporary_folder.hpp"

#include <doctest/doctest.h>
#include <rapidcheck.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <map>
#include <numeric>
#include <set>

using dither::make_partition;
using dither::Partition;
using dither::PartitionOptions;
using dither::Samples;

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

/// How many samples of each class a client has.
std::map<std::int32_t, std::size_t> classes_of(const Partition& partition, std::uint32_t client,
                                               std::span<const std::int32_t> labels) {
    std::map<std::int32_t, std::size_t> counts;
    for (const std::uint32_t i : partition.of(client))
        ++counts[labels[i]];
    return counts;
}

/// A one-dimensional IDX file of big-endian 32-bit integers, compressed by gzip.
std::vector<std::uint32_t> read_writers(const std::string& path) {
    const gzFile file = gzopen(path.c_str(), "rb");
    REQUIRE(file != nullptr);
    std::vector<std::uint32_t> numbers;
    for (std::array<std::uint8_t, 4> bytes{}; gzread(file, bytes.data(), 4) == 4;)
        numbers.push_back(std::uint32_t{bytes[0]} << 24 | std::uint32_t{bytes[1]} << 16 | std::uint32_t{bytes[2]} << 8 |
                          bytes[3]);
    gzclose(file);
    REQUIRE(numbers.size() == 60'002);  // the magic number, the extent
    numbers.erase(numbers.begin(), numbers.begin() + 2);
    return numbers;
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
            const Partition partition = make_partition({kind, alpha}, clients, {samples, labels, classes}, seed);
            RC_ASSERT(deals_all_to_all(partition, clients, samples));
        }));
    }

    TEST_CASE("iid parts have equal sizes, within one sample") {
        const Partition partition = make_partition({"iid"}, 7, {100, {}, 0}, 1);
        for (std::uint32_t k = 0; k < 7; ++k)
            CHECK((partition.of(k).size() == 14 || partition.of(k).size() == 15));
        CHECK_THROWS_AS(partition.of(7), dither::PreconditionError);
    }

    TEST_CASE("clients that drew nothing each take a sample from the one that has most") {
        // With alpha this small one client draws all of the only class.
        const auto labels = cyclic_labels(10, 1);
        const Partition partition = make_partition({"dirichlet", 1e-6}, 4, {10, labels, 1}, 5);
        std::vector<std::size_t> sizes;
        for (std::uint32_t k = 0; k < 4; ++k)
            sizes.push_back(partition.of(k).size());
        std::ranges::sort(sizes);
        CHECK(sizes == std::vector<std::size_t>{1, 1, 1, 7});
    }

    TEST_CASE("the parts are a pure function of the seed and the options") {
        const auto labels = cyclic_labels(1000, 10);
        CHECK(fingerprint(make_partition({"iid"}, 10, {1000, labels, 10}, 1)) ==
              "b83835440debaf707ea7a712def9363385243d25fb2b3537e9038a1ee8bb622d");
        CHECK(fingerprint(make_partition({"dirichlet", 0.5}, 10, {1000, labels, 10}, 1)) ==
              "d24036755fa272eb6c6d20c4eb69aa85774bbc93908d94ead8d6b927840f1443");
        CHECK(fingerprint(make_partition({"iid"}, 10, {1000, labels, 10}, 2)) !=
              fingerprint(make_partition({"iid"}, 10, {1000, labels, 10}, 1)));
    }

    TEST_CASE("a small alpha gives each client few classes, a large one all of them") {
        const auto labels = cyclic_labels(60'000, 10);
        const auto skew = [&](double alpha) {
            return skew_of(make_partition({"dirichlet", alpha}, 50, {labels.size(), labels, 10}, 3), labels, 10);
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
                make_partition({"dirichlet", alpha}, kClients, {labels.size(), labels, kClasses}, 4);
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

    TEST_CASE("shards are equal pieces of the samples in the order of their labels, and each client gets as many") {
        CHECK(rc::check([](const std::uint32_t seed) {
            const auto clients = *rc::gen::inRange<std::uint32_t>(1, 30);
            const auto shards = *rc::gen::inRange<std::uint32_t>(1, 6);
            const auto samples = *rc::gen::inRange<std::size_t>(clients * shards, 600);
            const auto classes = *rc::gen::inRange(1, 12);
            const auto labels = cyclic_labels(samples, classes);
            const PartitionOptions options{.kind = "shards", .shards = shards};
            const Partition partition = make_partition(options, clients, {samples, labels, classes}, seed);
            RC_ASSERT(deals_all_to_all(partition, clients, samples));
            const std::size_t shard = samples / (clients * shards);
            for (std::uint32_t k = 0; k < clients; ++k) {
                RC_ASSERT(partition.of(k).size() >= shards * shard);
                RC_ASSERT(partition.of(k).size() <= shards * (shard + 1));
            }
        }));
    }

    TEST_CASE("two shards of a sorted set whose shards are of one class give a client at most two classes") {
        const auto labels = cyclic_labels(6000, 10);
        const Partition partition = make_partition({.kind = "shards", .shards = 2}, 100, {6000, labels, 10}, 7);
        std::size_t of_two = 0;
        for (std::uint32_t k = 0; k < 100; ++k) {
            REQUIRE(partition.of(k).size() == 60);
            const auto classes = classes_of(partition, k, labels);
            REQUIRE(classes.size() <= 2);
            of_two += classes.size() == 2 ? 1 : 0;
        }
        CHECK(of_two > 70);  // 90 in the mean
    }

    TEST_CASE("pathological: a client has exactly so many classes, and a class's samples are shared evenly") {
        CHECK(rc::check([](const std::uint32_t seed) {
            const auto classes = *rc::gen::inRange<std::uint32_t>(1, 12);
            const auto of_each = *rc::gen::inRange<std::uint32_t>(1, classes + 1);
            const auto least = (classes + of_each - 1) / of_each;
            const auto clients = *rc::gen::inRange<std::uint32_t>(least, least + 20);
            const auto samples = *rc::gen::inRange<std::size_t>(classes * clients, classes * clients + 500);
            const auto labels = cyclic_labels(samples, static_cast<int>(classes));
            const PartitionOptions options{.kind = "pathological", .classes = of_each};
            const Partition partition =
                make_partition(options, clients, {samples, labels, static_cast<int>(classes)}, seed);
            RC_ASSERT(deals_all_to_all(partition, clients, samples));
            std::map<std::int32_t, std::vector<std::size_t>> shares;
            for (std::uint32_t k = 0; k < clients; ++k) {
                const auto own = classes_of(partition, k, labels);
                RC_ASSERT(own.size() == of_each);
                for (const auto& [label, count] : own)
                    shares[label].push_back(count);
            }
            RC_ASSERT(shares.size() == classes);
            for (const auto& [label, counts] : shares) {
                RC_ASSERT(std::ranges::max(counts) - std::ranges::min(counts) <= 1U);
                RC_ASSERT(counts.size() >= std::size_t{clients} * of_each / classes);
            }
        }));
    }

    TEST_CASE("pathological deals only classes that have samples") {
        const std::vector<std::int32_t> labels{0, 0, 2, 2, 2, 0};
        const Partition partition = make_partition({.kind = "pathological", .classes = 2}, 3, {6, labels, 5}, 1);
        for (std::uint32_t k = 0; k < 3; ++k)
            CHECK(classes_of(partition, k, labels).size() == 2);
    }

    TEST_CASE("quantity: sizes vary by alpha, and every client has a sample") {
        CHECK(rc::check([](const std::uint32_t seed) {
            const auto clients = *rc::gen::inRange<std::uint32_t>(1, 40);
            const auto samples = *rc::gen::inRange<std::size_t>(clients, 400);
            const auto alpha = *rc::gen::element(1e-6, 0.5, 1e9);
            const Partition partition = make_partition({"quantity", alpha}, clients, {samples, {}, 0}, seed);
            RC_ASSERT(deals_all_to_all(partition, clients, samples));
        }));
        const auto largest = [](double alpha) {
            const Partition partition = make_partition({"quantity", alpha}, 50, {50'000, {}, 0}, 3);
            std::size_t most = 0;
            for (std::uint32_t k = 0; k < 50; ++k)
                most = std::max(most, partition.of(k).size());
            return most;
        };
        CHECK(largest(0.1) > 5000);
        CHECK(largest(1e6) < 1050);
    }

    TEST_CASE("quantity: classes are as in the whole set, however much a client has") {
        const auto labels = cyclic_labels(60'000, 10);
        CHECK(skew_of(make_partition({"quantity", 0.5}, 20, {60'000, labels, 10}, 3), labels, 10) < 0.12);
    }

    TEST_CASE("natural: groups stay whole, and clients have equally many of them, within one") {
        CHECK(rc::check([](const std::uint32_t seed) {
            const auto count = *rc::gen::inRange<std::uint32_t>(1, 30);
            const auto clients = *rc::gen::inRange<std::uint32_t>(1, count + 1);
            const auto samples = *rc::gen::inRange<std::size_t>(count, 300);
            std::vector<std::uint32_t> groups(samples);
            for (std::size_t i = 0; i < samples; ++i)
                groups[i] = static_cast<std::uint32_t>(i % count);
            const Partition partition = make_partition({"natural"}, clients, {samples, {}, 0, groups}, seed);
            RC_ASSERT(deals_all_to_all(partition, clients, samples));
            std::set<std::uint32_t> seen;
            for (std::uint32_t k = 0; k < clients; ++k) {
                std::set<std::uint32_t> own;
                for (const std::uint32_t i : partition.of(k))
                    own.insert(groups[i]);
                RC_ASSERT(own.size() >= count / clients);
                RC_ASSERT(own.size() <= count / clients + 1);
                for (const std::uint32_t group : own)
                    RC_ASSERT(seen.insert(group).second);
                RC_ASSERT(clients < count || *own.begin() == k);
            }
        }));
    }

    TEST_CASE("resampled: many more clients than samples, each with as many different ones, every one as often") {
        constexpr std::uint32_t kClients = 20'000;
        const Partition partition = make_partition({.kind = "resampled", .samples = 5}, kClients, {50, {}, 0}, 3);
        CHECK(partition.clients() == kClients);
        std::vector<int> times(50);
        for (std::uint32_t k = 0; k < kClients; ++k) {
            const std::vector<std::uint32_t> own = partition.of(k);
            REQUIRE(own.size() == 5);
            REQUIRE(partition.size_of(k) == 5);
            REQUIRE(std::ranges::adjacent_find(own, std::greater_equal()) == own.end());
            for (const std::uint32_t i : own)
                ++times.at(i);
        }
        const double expected = kClients / 10.0;
        for (const int count : times)
            CHECK(std::abs(count - expected) < 5 * std::sqrt(expected));
        CHECK_THROWS_AS(partition.of(kClients), dither::PreconditionError);
    }

    TEST_CASE("resampled: what a client has does not depend on how many others there are") {
        const PartitionOptions options{.kind = "resampled", .samples = 10};
        CHECK(make_partition(options, 10, {100, {}, 0}, 1).of(7) ==
              make_partition(options, 1'000'000, {100, {}, 0}, 1).of(7));
    }

    TEST_CASE("a part without samples is nobody's") {
        CHECK_THROWS_WITH_AS(Partition(std::vector<std::vector<std::uint32_t>>{{1}, {}}),
                             "federation.partition.kind leaves client 1 without samples", dither::InputError);
    }

    TEST_CASE("every kind is a pure function of its seed, and another seed deals otherwise") {
        const auto labels = cyclic_labels(1000, 10);
        std::vector<std::uint32_t> groups(1000);
        for (std::size_t i = 0; i < groups.size(); ++i)
            groups[i] = static_cast<std::uint32_t>(i % 25);
        for (const dither::Choice& kind : dither::partition_choices()) {
            CAPTURE(kind.name);
            const auto of_seed = [&](std::uint32_t seed) {
                return fingerprint(make_partition({std::string(kind.name)}, 10, {1000, labels, 10, groups}, seed));
            };
            CHECK(of_seed(1) == of_seed(1));
            CHECK(of_seed(1) != of_seed(2));
        }
    }

    TEST_CASE("what cannot be dealt is refused with its numbers") {
        CHECK_THROWS_WITH_AS(make_partition({"iid"}, 11, {10, {}, 0}, 1),
                             "federation.clients = 11 is larger than the training set of 10 samples; "
                             "federation.partition.kind = \"resampled\" draws samples for any number of clients",
                             dither::InputError);
        CHECK_THROWS_AS(make_partition({"dirichlet"}, 2, {10, {}, 0}, 1), dither::InputError);
        CHECK_THROWS_AS(make_partition({"sorted"}, 2, {10, {}, 0}, 1), dither::InputError);
        const std::vector<std::int32_t> labels{0, 1, 2};
        CHECK_THROWS_AS(make_partition({"dirichlet"}, 2, {3, labels, 2}, 1), dither::PreconditionError);
        CHECK_THROWS_AS(make_partition({"iid"}, 2, {4, labels, 3}, 1), dither::PreconditionError);
    }

    TEST_CASE("numbers that a partition cannot meet are refused with their keys") {
        const auto labels = cyclic_labels(20, 4);
        const auto error_of = [&](const PartitionOptions& options, std::uint32_t clients, const Samples& samples) {
            try {
                make_partition(options, clients, samples, 1);
            } catch (const dither::InputError& error) {
                return std::string(error.what());
            }
            return std::string();
        };
        const Samples samples{20, labels, 4};
        CHECK(
            error_of({.kind = "shards", .shards = 3}, 7, samples) ==
            "federation.partition.shards = 3 of each of federation.clients = 7 are more than the 20 training samples");
        CHECK(error_of({.kind = "pathological", .classes = 5}, 4, samples) ==
              "federation.partition.classes = 5 is larger than the 4 classes of the training set");
        CHECK(error_of({.kind = "pathological", .classes = 1}, 3, samples) ==
              "federation.partition.classes = 1 of each of federation.clients = 3 leave some of the 4 classes of the "
              "training set to nobody");
        CHECK(
            error_of({.kind = "pathological", .classes = 4}, 6, samples) ==
            "federation.partition.classes = 4 of each of federation.clients = 6: class 0 has 5 samples for 6 clients");
        CHECK(error_of({.kind = "pathological"}, 6, {20, {}, 0}) ==
              "federation.partition.kind = \"pathological\" needs data with labels");
        CHECK(error_of({.kind = "natural"}, 6, samples) == "federation.partition.kind = \"natural\" needs data.groups");
        CHECK(error_of({.kind = "resampled", .samples = 21}, 6, samples) ==
              "federation.partition.samples = 21 of each client are more than the 20 training samples");
        const std::vector<std::uint32_t> groups(20);
        CHECK(error_of({.kind = "natural"}, 2, {20, labels, 4, groups}) ==
              "federation.clients = 2 is larger than the 1 groups of data.groups");
    }

    TEST_CASE("MNIST by writer: as many clients as writers, and each has the digits of one") {
        const char* const root = std::getenv("DITHER_DATA");
        const std::filesystem::path mnist = std::filesystem::path(root != nullptr ? root : "") / "mnist";
        if (!std::filesystem::exists(mnist / "train-writers-idx1-int.gz")) {
            MESSAGE("skipped: DITHER_DATA names no folder with mnist/train-writers-idx1-int.gz");
            return;
        }
        const std::vector<std::uint32_t> writers = read_writers((mnist / "train-writers-idx1-int.gz").string());
        const dither::test::TemporaryFolder folder;
        std::string lines;
        for (const std::uint32_t writer : writers)
            lines += std::to_string(writer) + "\n";
        dither::test::write_text(folder.path() / "writers.txt", lines);
        dither::Job job;
        job.data.path = mnist.string();
        job.data.groups = (folder.path() / "writers.txt").string();
        job.federation.partition.kind = "natural";
        const dither::Dataset data = load_data_to_deal(job).train;
        const Partition partition = make_partition(job.federation.partition, 539, data, 1);
        for (std::uint32_t k = 0; k < 539; ++k) {
            const auto own = partition.of(k);
            REQUIRE(own.size() >= 19);
            REQUIRE(own.size() <= 131);
            REQUIRE(std::ranges::all_of(own, [&](std::uint32_t i) { return writers[i] == writers[own[0]]; }));
        }
    }
}
