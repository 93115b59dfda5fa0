#include "aggregator/combination.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include <doctest/doctest.h>
#include <rapidcheck.h>

using namespace dither;

namespace {

WeightedReport report(std::uint32_t client, std::uint64_t weight, const LayerStatistics& statistics, float loss = 1) {
    return {.client = client,
            .weight = weight,
            .report = {.samples = weight, .steps = 1, .train_loss = loss, .layers = {statistics}},
            .probe = Probe::none,
            .plan = {}};
}

LayerStatistics all_of(float value) {
    LayerStatistics statistics;
    for_each_statistic(statistics, [&](const char*, float& statistic, Combine) { statistic = value; });
    return statistics;
}

/// Ten clients near 1, and so many liars of a fifth of them all who say `lie`.
std::vector<WeightedReport> with_liars(float lie, std::uint32_t honest = 8, std::uint32_t liars = 2) {
    std::vector<WeightedReport> reports;
    for (std::uint32_t client = 0; client < honest + liars; ++client) {
        const float truth = 0.8F + 0.05F * static_cast<float>(client);
        const float said = client < honest ? truth : lie;
        reports.push_back(report(client, 10, all_of(said), said));
    }
    return reports;
}

template <typename Visitor>
void for_each_value(const LayerStatistics& statistics, Visitor&& visit) {
    for_each_statistic(statistics, [&](const char* name, float value, Combine) {
        CAPTURE(name);
        visit(value);
    });
}

/// RapidCheck draws integers; this makes a positive float of them.
float draw_positive() {
    return static_cast<float>(*rc::gen::inRange(1, 1'000'000)) * 1e-3F;
}

void shuffle(std::vector<WeightedReport>& reports) {
    for (std::size_t i = reports.size(); i > 1; --i)
        std::swap(reports[i - 1], reports[static_cast<std::size_t>(*rc::gen::inRange(0, static_cast<int>(i)))]);
}

constexpr std::array kAll{Combination::mean, Combination::clipped, Combination::median};

}  // namespace

TEST_SUITE("aggregator/combination") {
    TEST_CASE(
        "norms combine as weighted root mean squares, shares and squared errors as means, the range as the maximum") {
        LayerStatistics one;
        one.grad_norm = 3;
        one.saturation = 0.1F;
        one.update_range = 5;
        one.forward_error = 0.1F;
        one.update_nmse = 0.5F;
        LayerStatistics other;
        other.grad_norm = 5;
        other.saturation = 0.4F;
        other.update_range = 2;
        other.forward_error = 0.3F;
        other.update_nmse = 0.75F;
        for (const Combination combination : {Combination::mean, Combination::clipped}) {
            std::vector<WeightedReport> reports{report(1, 3, one), report(2, 1, other)};
            const LayerStatistics combined = combine(reports, 1, combination)[0];
            CHECK(combined.grad_norm == doctest::Approx(std::sqrt((3 * 9 + 25) / 4.0)));
            CHECK(combined.saturation == doctest::Approx((3 * 0.1 + 0.4) / 4));
            CHECK(combined.update_range == 5);
            CHECK(combined.forward_error == doctest::Approx(std::sqrt((3 * 0.01 + 0.09) / 4)));
            CHECK(combined.update_nmse == 0.5625F);
        }
    }

    TEST_CASE("a median is of the clients, whatever weight they claim, and the lower one of two") {
        std::vector<WeightedReport> reports{report(1, 1, all_of(1)), report(2, 1, all_of(2)), report(3, 1, all_of(4))};
        CHECK(combine(reports, 1, Combination::median)[0] == all_of(2));
        reports[2].weight = 1'000'000;
        CHECK(combine(reports, 1, Combination::median)[0] == all_of(2));
        reports.push_back(report(4, 1, all_of(8)));
        CHECK(combine(reports, 1, Combination::median)[0] == all_of(2));
    }

    TEST_CASE("a client that lies and claims to be many cannot decide: its value is clipped, and its weight") {
        std::vector<WeightedReport> reports{report(1, 10, all_of(1)), report(2, 10, all_of(1)),
                                            report(3, std::uint64_t{1} << 39, all_of(1e6F), 1e6F)};
        for_each_value(combine(reports, 1, Combination::clipped)[0], [](float value) {
            CHECK(value <= 4);  // 4 times the honest value, with 4 of the 6 parts of the weight; update_range: 4
        });
        CHECK(combine_train_loss(reports, Combination::clipped) == doctest::Approx((10 + 10 + 40 * 4) / 60.0));
        CHECK(combine_train_loss(reports, Combination::median) == 1);
    }

    TEST_CASE("a fifth of liars moves no statistic by more than the clip allows, and the median hardly at all") {
        std::vector<WeightedReport> truth = with_liars(1, 8, 0);
        const LayerStatistics honest = combine(truth, 1, Combination::mean)[0];
        for (const float lie : {1e6F, 0.0F, 1e38F}) {
            CAPTURE(lie);
            std::vector<WeightedReport> reports = with_liars(lie);
            for_each_value(combine(reports, 1, Combination::clipped)[0], [&](float value) {
                CHECK(value < honest.curvature * static_cast<float>(kClipFactor) * 1.2F);
                CHECK(value > honest.curvature / static_cast<float>(kClipFactor));
            });
            for_each_value(combine(reports, 1, Combination::median)[0], [&](float value) {
                CHECK(value >= 0.8F);
                CHECK(value <= 1.15F);
            });
            CHECK(combine_train_loss(reports, Combination::clipped) < 2);
            CHECK(combine_train_loss(reports, Combination::clipped) > 0.7);
            CHECK(combine_train_loss(reports, Combination::median) == doctest::Approx(0.975).epsilon(0.2));
        }
        std::vector<WeightedReport> reports = with_liars(1e6F);
        CHECK(combine(reports, 1, Combination::mean)[0].curvature > 1e5F);
    }

    TEST_CASE("values that agree within the clip are combined exactly as without it") {
        std::vector<WeightedReport> reports = with_liars(1);
        CHECK(combine(reports, 1, Combination::clipped) == combine(reports, 1, Combination::mean));
        CHECK(combine_train_loss(reports, Combination::clipped) == combine_train_loss(reports, Combination::mean));
    }

    TEST_CASE("a statistic counts only where it was measured, and where it is a number") {
        LayerStatistics probed;
        probed.curvature = 0.25F;
        LayerStatistics broken;
        broken.curvature = std::numeric_limits<float>::infinity();
        broken.grad_norm = std::numeric_limits<float>::quiet_NaN();
        for (const Combination combination : kAll) {
            std::vector<WeightedReport> reports{report(2, 100, {}), report(1, 1, probed), report(3, 100, broken)};
            const LayerStatistics combined = combine(reports, 1, combination)[0];
            CHECK(combined.curvature == 0.25F);
            CHECK(combined.curvature_norm == kNotMeasured);
            CHECK(combined.grad_norm == kNotMeasured);
        }
    }

    TEST_CASE("the training loss is that of those whose loss is finite") {
        const float nan = std::numeric_limits<float>::quiet_NaN();
        for (const Combination combination : kAll) {
            CHECK(combine_train_loss({report(1, 1, {}, 2), report(2, 5, {}, nan)}, combination) == 2);
            CHECK(std::isnan(combine_train_loss({report(1, 1, {}, nan)}, combination)));
        }
        CHECK(combine_train_loss({report(1, 3, {}, 1), report(2, 1, {}, 2)}, Combination::mean) == 1.25);
    }

    TEST_CASE("the error of whole updates is the mean over those that measured it, by weight, and clipped") {
        std::vector<WeightedReport> reports{report(4, 3, {}), report(1, 1, {}), report(2, 100, {})};
        for (const Combination combination : kAll)
            CHECK_FALSE(combine_update_nmse(reports, combination));
        reports[0].report.update_nmse = 0.5F;
        reports[1].report.update_nmse = 0.75F;
        CHECK(combine_update_nmse(reports, Combination::mean) == 0.5625);
        CHECK(combine_update_nmse(reports, Combination::median) == 0.5);
        reports[2].report.update_nmse = 0;  // exact, and a value like any other
        CHECK(combine_update_nmse(reports, Combination::mean) == 2.25 / 104);
        reports[2].report.update_nmse = 1e38F;
        CHECK(combine_update_nmse(reports, Combination::clipped) == (3 * 0.5 + 0.75 + 12 * 3) / 16);
    }

    TEST_CASE("no report gives no statistics") {
        std::vector<WeightedReport> none;
        for (const Combination combination : kAll)
            CHECK(combine(none, 2, combination) == std::vector<LayerStatistics>(2));
    }

    TEST_CASE("a report of another number of layers is a defect of the caller") {
        std::vector<WeightedReport> reports{report(1, 1, {})};
        CHECK_THROWS_AS(combine(reports, 2, Combination::clipped), PreconditionError);
    }

    TEST_CASE("every combination is bit-identical for any order of arrival") {
        CHECK(rc::check([] {
            std::vector<WeightedReport> reports;
            const auto clients = *rc::gen::inRange<std::uint32_t>(2, 8);
            for (std::uint32_t client = 0; client < clients; ++client) {
                LayerStatistics statistics;
                for_each_statistic(statistics, [](const char*, float& value, Combine) { value = draw_positive(); });
                reports.push_back(
                    report(client, *rc::gen::inRange<std::uint64_t>(1, 1000), statistics, draw_positive()));
            }
            for (const Combination combination : kAll) {
                const auto expected = combine(reports, 1, combination);
                const double loss = combine_train_loss(reports, combination);
                shuffle(reports);
                RC_ASSERT(combine_train_loss(reports, combination) == loss);
                RC_ASSERT(combine(reports, 1, combination) == expected);
            }
        }));
    }

    TEST_CASE("combinations go by the names of the job's key") {
        CHECK(combination_of("mean") == Combination::mean);
        CHECK(combination_of("clipped") == Combination::clipped);
        CHECK(combination_of("median") == Combination::median);
        CHECK_THROWS_AS(combination_of("krum"), InputError);
    }

    TEST_CASE("no minority moves what a payload is taken to take") {
        std::vector<WeightedReport> reports(5);
        for (std::size_t k = 0; k < reports.size(); ++k)
            reports[k].payload_bytes = 100 + k;
        reports[3].payload_bytes = reports[4].payload_bytes = 1'000'000;
        CHECK(combine_payload_bytes(reports, Combination::clipped) < 4 * 102);
        CHECK(combine_payload_bytes(reports, Combination::median) == 102);
        CHECK(combine_payload_bytes(reports, Combination::mean) > 400'000);
        reports.resize(2);
        CHECK(combine_payload_bytes(reports, Combination::clipped) == doctest::Approx(100.5));
    }
}
