#include "transport/detail/value_groups.hpp"

#include "tests/unit/transport/codecs.hpp"

#include <numeric>

using namespace dither;
using namespace dither::detail;
using namespace dither::test;

namespace {

/// One layer of a matrix whose rows grow, and a vector.
Schema matrix_schema() {
    return Schema({{.name = "fc1",
                    .count = 64 * 40 + 40,
                    .tensors = {{"weight", Shape{64, 40}, 0}, {"bias", Shape{40}, 64 * 40}}},
                   {.name = "fc2", .offset = 2600, .count = 7, .tensors = {{"weight", Shape{7}, 2600}}}});
}

std::vector<float> growing_values() {
    std::vector<float> values(2607);
    for (std::size_t i = 0; i < values.size(); ++i)
        values[i] = static_cast<float>(1 + i / 40) * (i % 2 == 0 ? 1.0F : -1.0F);
    return values;
}

}  // namespace

TEST_SUITE("transport/detail/value_groups") {
    TEST_CASE("with nothing expected every layer is a group, as it is") {
        const Schema schema = matrix_schema();
        const ValueGroups groups(schema, nullptr, 100);
        REQUIRE(groups.all().size() == 2);
        CHECK(groups.all()[1].first == 2600);
        CHECK(groups.all()[1].count == 7);
        CHECK(groups.all()[1].lane != groups.all()[0].lane);
        CHECK(groups.all()[1].ends_layer);
    }

    TEST_CASE("every coordinate is in one group of its layer, and comes back from it") {
        const Schema schema = matrix_schema();
        const auto values = growing_values();
        const Expectation expectation(schema, values);
        for (const std::size_t fewest : {1U, 100U, 1000U, 5000U}) {
            const ValueGroups groups(schema, &expectation, fewest);
            std::vector<float> back;
            std::vector<float> layer_values(2600);
            std::vector<float> group_values(2600);
            for (const ValueGroup& group : groups.all()) {
                const std::size_t count = schema.layers()[group.layer].count;
                CHECK(group.count >= std::min(fewest, count));
                const auto in_group = std::span(group_values).first(group.count);
                groups.gather(group, values, in_group);
                groups.scatter(group, in_group, std::span(layer_values).first(count));
                if (group.ends_layer)
                    back.insert(back.end(), layer_values.begin(),
                                layer_values.begin() + static_cast<std::ptrdiff_t>(count));
            }
            CHECK(back == values);
        }
    }

    TEST_CASE("groups keep apart what is expected to be of different size, the smallest first") {
        const Schema schema = matrix_schema();
        const auto values = growing_values();
        const Expectation expectation(schema, values);
        const ValueGroups groups(schema, &expectation, 100);
        CHECK(groups.all().size() > 4);
        double last = 0;
        for (const ValueGroup& group : groups.all().first(groups.all().size() - 1)) {
            std::vector<float> members(group.count);
            groups.gather(group, values, members);
            double mean = 0;
            for (const float value : members)
                mean += std::abs(static_cast<double>(value)) / static_cast<double>(group.count);
            CHECK(mean > last);
            last = mean;
        }
    }

    TEST_CASE("an expectation of zeros, or of one spike, gives groups too") {
        const Schema schema = matrix_schema();
        std::vector<float> sum(2607);
        for (const float spike : {0.0F, 1e-40F, 1e30F}) {
            sum[77] = spike;
            const Expectation expectation(schema, sum);
            const ValueGroups groups(schema, &expectation, 1);
            CHECK(std::transform_reduce(groups.all().begin(), groups.all().end(), std::size_t{0}, std::plus<>(),
                                        [](const ValueGroup& group) { return group.count; }) == 2607);
        }
    }
}
