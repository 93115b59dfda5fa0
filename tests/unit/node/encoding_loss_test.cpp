#include "node/encoding_loss.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "core/config.hpp"
#include "core/error.hpp"
#include "core/rng.hpp"

using namespace dither;

namespace {

constexpr std::size_t kFirst = 600;
constexpr std::size_t kSecond = 40;

Schema schema() {
    return Schema(
        {{.name = "fc1", .count = kFirst, .tensors = {{"weight", Shape{kFirst}, 0}}},
         {.name = "fc2", .offset = kFirst, .count = kSecond, .tensors = {{"weight", Shape{kSecond}, kFirst}}}});
}

/// The second layer's values are ten times as large as the first one's.
std::vector<float> random_update() {
    std::vector<float> update(kFirst + kSecond);
    Stream({.seed = 5, .purpose = Purpose::test}).fill_normal(update);
    for (std::size_t i = kFirst; i < update.size(); ++i)
        update[i] *= 10;
    return update;
}

TrainingReport report_of(std::span<const float> values, std::span<const float> lost) {
    TrainingReport report{.layers = std::vector<LayerStatistics>(2)};
    report_loss(schema(), values, lost, report);
    return report;
}

/// sum (a - b)^2 / sum a^2 over [from, to).
double nmse(std::span<const float> a, std::span<const float> b, std::size_t from, std::size_t to) {
    double error = 0;
    double norm = 0;
    for (std::size_t i = from; i < to; ++i) {
        error += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
        norm += std::pow(static_cast<double>(a[i]), 2);
    }
    return error / norm;
}

}  // namespace

TEST_SUITE("node/encoding_loss") {
    TEST_CASE("the reported error is that of decoding the payload, in each layer and over all of them") {
        const Schema layers = schema();
        const std::vector<float> steps(2, 2.0F);
        const Terms terms{.steps = steps, .key = {.purpose = Purpose::uplink_rounding, .client = 3, .round = 1}};
        const std::vector<float> update = random_update();
        for (const char* kind : {"grid", "qsgd", "terngrad", "eden", "trellis", "sign", "topk", "bf16", "fp16"}) {
            CAPTURE(kind);
            const auto codec = make_codec({.kind = kind}, layers);
            std::vector<std::byte> payload;
            codec->encode(update, terms, payload);
            std::vector<float> decoded(update.size());
            codec->decode(payload, terms, decoded);
            std::vector<float> lost(update.size());
            find_loss(*codec, update, payload, terms, lost);
            const TrainingReport report = report_of(update, lost);
            const auto of = [&](std::size_t from, std::size_t to) {
                return doctest::Approx(nmse(update, decoded, from, to)).epsilon(1e-5);
            };
            CHECK(report.update_nmse > 0);
            CHECK(report.update_nmse == of(0, update.size()));
            CHECK(report.layers[0].update_nmse == of(0, kFirst));
            CHECK(report.layers[1].update_nmse == of(kFirst, update.size()));
        }
    }

    TEST_CASE("an exact codec loses nothing") {
        const Schema layers = schema();
        const auto codec = make_codec({.kind = "raw"}, layers);
        const std::vector<float> update = random_update();
        std::vector<std::byte> payload;
        codec->encode(update, {}, payload);
        std::vector<float> lost(update.size(), 1.0F);
        find_loss(*codec, update, payload, {}, lost);
        const TrainingReport report = report_of(update, lost);
        CHECK(report.update_nmse == 0);
        CHECK(report.layers[0].update_nmse == 0);
        CHECK(report.layers[1].update_nmse == 0);
    }

    TEST_CASE("a layer that did not move has no relative error, and what it lost still counts in the whole") {
        std::vector<float> update = random_update();
        std::fill(update.begin() + kFirst, update.end(), 0.0F);
        std::vector<float> lost(update.size());
        lost.back() = 3;
        const TrainingReport report = report_of(update, lost);
        CHECK(report.layers[0].update_nmse == 0);
        CHECK(report.layers[1].update_nmse == kNotMeasured);
        double norm = 0;
        for (const float value : update)
            norm += static_cast<double>(value) * static_cast<double>(value);
        CHECK(report.update_nmse == doctest::Approx(9 / norm));
        const std::vector<float> nothing(update.size());
        CHECK(report_of(nothing, nothing).update_nmse == kNotMeasured);
    }

    TEST_CASE("an error beyond all proportion is still a number that can be sent") {
        const std::vector<float> update(kFirst + kSecond, 1e-30F);
        const std::vector<float> lost(update.size(), 1.0F);
        const TrainingReport report = report_of(update, lost);
        CHECK(report.update_nmse == std::numeric_limits<float>::max());
        CHECK(report.layers[1].update_nmse == std::numeric_limits<float>::max());
    }

    TEST_CASE("a loss of another size than the update's is a defect of the caller") {
        const Schema layers = schema();
        const auto codec = make_codec({.kind = "raw"}, layers);
        std::vector<float> lost(1);
        CHECK_THROWS_AS(find_loss(*codec, random_update(), {}, {}, lost), PreconditionError);
    }
}
