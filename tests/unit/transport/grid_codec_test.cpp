#include "tests/unit/transport/grid.hpp"

using namespace dither;
using namespace dither::test;

TEST_SUITE("transport/grid_codec") {
    TEST_CASE("an unknown coder is an input error") {
        const Schema schema = schema_of({1});
        CHECK_THROWS_AS(grid(schema, "zip"), InputError);
    }

    TEST_CASE("grid decodes within one step, and its integers are the decoded values") {
        const Schema schema = schema_of({10'000, 1, 4096, 300});
        const auto values = normal_values(schema.parameters(), 3);
        for (const char* coder : {"packed", "zstd", "context"})
            for (const float step : {10.0F, 0.7F, 0.1F, 1e-3F, 1e-6F}) {
                CAPTURE(coder);
                CAPTURE(step);
                const auto codec = grid(schema, coder);
                const std::vector<float> steps{step, 0.5F * step, 2 * step, step};
                const Bytes payload = encoded(*codec, values, terms_of(steps));
                const auto back = decoded(*codec, payload, values.size(), terms_of(steps));
                double worst = 0;  // beyond a step, which the control variate may add half of another to
                for (std::size_t layer = 0; layer < schema.layer_count(); ++layer)
                    for (std::size_t j = 0; j < schema.layers()[layer].count; ++j) {
                        const float value = schema.slice(values, layer)[j];
                        const float error = std::abs(schema.slice(std::span(back), layer)[j] - value);
                        const float allowed = (coder[0] == 'c' ? 1.5F : 1.0F) * steps[layer];
                        worst = std::max<double>(worst, error - allowed * (1 + 1e-6F) - std::abs(value) * 0x1p-22F);
                    }
                CHECK(worst <= 0);
                check_consistent(*codec, schema, payload, terms_of(steps));
            }
    }

    TEST_CASE("every coder rounds alike, and packed codes are the identity on multiples of the step") {
        const Schema schema = matrices();
        const std::vector<float> steps{0.25F, 0.5F};
        const auto values = structured_values(schema, 4);
        const auto packed = grid(schema, "packed");
        const auto expected = integers(*packed, schema, encoded(*packed, values, terms_of(steps)), terms_of(steps));
        const auto zstd = grid(schema, "zstd");
        CHECK(integers(*zstd, schema, encoded(*zstd, values, terms_of(steps)), terms_of(steps)) == expected);
        const auto context = grid(schema, "context");
        auto fine = integers(*context, schema, encoded(*context, values, terms_of(steps)), terms_of(steps));
        std::ranges::transform(fine, fine.begin(), nearest_integer);
        CHECK(fine == expected);

        auto multiples = values;
        for (float& value : multiples)
            value = 0.5F * std::round(value);
        CHECK(decoded(*packed, encoded(*packed, multiples, terms_of(steps)), values.size(), terms_of(steps)) ==
              multiples);
    }

    TEST_CASE("grid is unbiased, with a control variate and without") {
        const Schema schema = schema_of({8});
        const std::vector<float> steps{0.1F};
        const std::vector<float> values{0.03F, -0.03F, 0.05F, -0.0999F, 0.149F, 3.217F, -12.08F, 1e-3F};
        check_unbiased(*grid(schema, "packed"), values, 20'000, steps);
        check_unbiased(*grid(schema, "context"), values, 20'000, steps);
    }

    TEST_CASE("the control variate is unbiased as a whole and takes a quarter of the squared error away") {
        const Schema schema = matrices();
        const auto values = structured_values(schema, 5);
        const std::vector<float> steps{0.1F, 0.1F};
        constexpr std::uint32_t kStreams = 60;
        const auto error_of = [&](const char* coder, double& bias, double& deviation) {
            const auto codec = grid(schema, coder);
            std::vector<double> sums(values.size());
            double squares = 0;
            for (std::uint32_t seed = 0; seed < kStreams; ++seed) {
                const auto back = decoded(*codec, encoded(*codec, values, terms_of(steps, seed)), values.size(),
                                          terms_of(steps, seed));
                for (std::size_t j = 0; j < values.size(); ++j) {
                    const double error = static_cast<double>(back[j]) - static_cast<double>(values[j]);
                    sums[j] += error * (values[j] < 0 ? -1 : 1);  // towards larger magnitudes
                    squares += error * error;
                }
            }
            for (const double sum : sums)
                bias += sum;
            deviation = std::sqrt(squares);
            return squares;
        };
        double bias = 0;
        double deviation = 0;
        const double plain = error_of("packed", bias, deviation);
        CHECK(std::abs(bias) < 4 * deviation);
        bias = 0;
        const double reduced = error_of("context", bias, deviation);
        CHECK(std::abs(bias) < 4 * deviation);
        CHECK(reduced < 0.75 * plain);
    }

    TEST_CASE("equal keys give equal payloads; another key, or another layer, rounds differently") {
        const Schema schema = schema_of({1000, 1000});
        const std::vector<float> steps{1, 1};
        const std::vector<float> values(2000, 0.5F);
        for (const char* coder : {"zstd", "context"}) {
            const auto codec = grid(schema, coder);
            const Bytes payload = encoded(*codec, values, terms_of(steps, 1));
            CHECK(encoded(*codec, values, terms_of(steps, 1)) == payload);
            CHECK(encoded(*codec, values, terms_of(steps, 2)) != payload);
            const auto back = decoded(*codec, payload, 2000, terms_of(steps, 1));
            CHECK_FALSE(std::equal(back.begin(), back.begin() + 1000, back.begin() + 1000));
        }
    }

    TEST_CASE("values that are not finite or 2^31 steps away are training errors that name the layer") {
        const Schema schema = schema_of({4, 2});
        const std::vector<float> steps{1, 0.5F};
        for (const char* coder : {"packed", "context"}) {
            const auto codec = grid(schema, coder);
            for (const float bad :
                 {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity(), 0x1p30F})
                CHECK_THROWS_WITH_AS(encoded(*codec, std::vector<float>{0, 0, 0, 0, 0, bad}, terms_of(steps)),
                                     doctest::Contains("fc2"), TrainingError);
            CHECK_NOTHROW(encoded(*codec, std::vector<float>{0, 0, 0, 0, 0, 0x1.fffffep29F}, terms_of(steps)));
        }
    }

    TEST_CASE("steps that are not positive and finite are a defect of the caller") {
        const Schema schema = schema_of({1});
        const auto codec = grid(schema, "context");
        for (const float step :
             {0.0F, -1.0F, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()})
            CHECK_THROWS_AS(encoded(*codec, std::vector<float>{1}, terms_of(std::vector<float>{step})),
                            PreconditionError);
        CHECK_THROWS_AS(encoded(*codec, std::vector<float>{1}), PreconditionError);
    }

    TEST_CASE("a payload on steps that are no grid is refused as a payload, not as a defect of its reader") {
        const Schema schema = schema_of({1});
        const float infinity = std::numeric_limits<float>::infinity();
        for (const char* coder : {"packed", "context"}) {
            const auto codec = grid(schema, coder);
            const std::vector<float> one{1};
            const Bytes payload = encoded(*codec, std::vector<float>{1}, terms_of(one));
            for (const float step : {0.0F, -1.0F, infinity, std::nextafter(kLargestGridStep, infinity)})
                refuse(*codec, schema, payload, terms_of(std::vector<float>{step}));
            refuse(*codec, schema, payload);
        }
    }
}
