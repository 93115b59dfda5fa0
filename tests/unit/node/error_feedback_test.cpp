#include "node/error_feedback.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <numeric>

#include "core/config.hpp"
#include "core/error.hpp"
#include "tests/unit/temporary_folder.hpp"

using namespace dither;
using test::TemporaryFolder;

namespace {

constexpr std::size_t kParameters = 40;

Schema schema() {
    return Schema({{.name = "fc1", .count = kParameters, .tensors = {{"weight", Shape{kParameters}, 0}}}});
}

/// A client whose updates are sometimes lost, and what the aggregator has summed of them.
class Client {
public:
    explicit Client(const CodecOptions& options)
        : codec_(make_codec(options, schema_)), feeds_back_(feeds_back(options, *codec_)) {}

    /// Sends `update` in a session of its own; adds to the sum what arrives if it is `counted`.
    void send(std::vector<float> update, bool counted) {
        ++round_;
        ErrorFeedback feedback(*codec_, ResidualStore(folder_.path(), kParameters), kParameters);
        std::vector<std::byte> payload;
        if (feeds_back_)
            encode(feedback, update, payload);
        else
            codec_->encode(update, terms(), payload);
        std::vector<float> decoded(kParameters);
        codec_->decode(payload, terms(), decoded);
        if (!counted)
            return;
        for (std::size_t i = 0; i < kParameters; ++i)
            sum[i] += decoded[i];
        last = decoded;
        counted_ = round_;
    }

    std::vector<double> residual() const {
        std::vector<float> values(kParameters);
        ResidualStore(folder_.path(), kParameters).load(3, counted_, values);
        return {values.begin(), values.end()};
    }

    std::vector<double> sum = std::vector<double>(kParameters);
    std::vector<float> last;

private:
    void encode(ErrorFeedback& feedback, std::vector<float>& update, std::vector<std::byte>& payload) const {
        feedback.begin({.round = round_, .client = 3, .counted = counted_});
        feedback.encode(update, terms(), payload);
    }

    Terms terms() const {
        return {.steps = steps_, .key = {.purpose = Purpose::uplink_rounding, .client = 3, .round = round_}};
    }

    TemporaryFolder folder_;
    Schema schema_ = schema();
    std::vector<float> steps_{0.125F};
    std::unique_ptr<Codec> codec_;
    bool feeds_back_;
    std::uint32_t round_ = 0;
    std::uint32_t counted_ = 0;
};

std::vector<float> random_update(std::uint32_t seed) {
    std::vector<float> update(kParameters);
    Stream({.seed = seed}).fill_normal(update);
    return update;
}

}  // namespace

TEST_SUITE("node/error_feedback") {
    TEST_CASE("feedback is due for biased codecs, unless the job says otherwise") {
        const Schema small = schema();
        const auto wants = [&](const std::string& kind, const std::string& feedback) {
            const CodecOptions options{.kind = kind, .feedback = feedback};
            return feeds_back(options, *make_codec(options, small));
        };
        CHECK(wants("sign", "auto"));
        CHECK(wants("topk", "auto"));
        CHECK_FALSE(wants("raw", "auto"));
        CHECK_FALSE(wants("qsgd", "auto"));
        CHECK(wants("qsgd", "on"));
        CHECK_FALSE(wants("sign", "off"));
    }

    TEST_CASE("what was counted and what is left add up to the counted updates, however many were lost between") {
        for (const char* kind : {"sign", "topk", "terngrad", "grid"}) {
            CAPTURE(kind);
            Client client({.kind = kind, .share = 0.1, .feedback = "on"});
            std::vector<double> truth(kParameters);
            for (std::uint32_t round = 1; round <= 60; ++round) {
                const std::vector<float> update = random_update(round);
                const bool counted = round % 3 == 1 || round % 7 == 0;
                client.send(update, counted);
                for (std::size_t i = 0; counted && i < kParameters; ++i)
                    truth[i] += update[i];
                const std::vector<double> left = client.residual();
                for (std::size_t i = 0; i < kParameters; ++i)
                    CHECK(client.sum[i] + left[i] == doctest::Approx(truth[i]).epsilon(1e-4));
            }
        }
    }

    TEST_CASE("an update that is lost changes nothing of what is sent next") {
        Client lossy({.kind = "sign"});
        Client other({.kind = "sign"});
        for (std::uint32_t round = 1; round <= 10; ++round) {
            lossy.send(random_update(round), true);
            lossy.send(random_update(100 + round), false);
            other.send(random_update(round), true);
            CHECK(lossy.last == other.last);
        }
    }

    TEST_CASE(
        "descent on a quadratic by one bit of skewed gradients finds the minimum with feedback, though updates "
        "are lost, and not without") {
        // f(x) = x^2 / 2 in every coordinate, from gradients x + n: n is 3 with chance 1/4, else -1, so that its mean
        // is 0, but its sign mostly is not (after Karimireddy et al.): without feedback x goes to the median, 1.
        const auto mean_of = [](const std::string& feedback) {
            constexpr std::uint32_t kRounds = 400;
            Client client({.kind = "sign", .feedback = feedback});
            std::vector<float> gradient(kParameters);
            double mean = 0;
            Stream stream({.seed = 1});
            for (std::uint32_t round = 1; round <= kRounds; ++round) {
                for (std::size_t i = 0; i < kParameters; ++i)
                    gradient[i] = -0.05F * (static_cast<float>(client.sum[i]) + (stream.below(4) == 0 ? 3.0F : -1.0F));
                client.send(gradient, round % 4 != 0);
                if (round > kRounds / 2)
                    mean += std::reduce(client.sum.begin(), client.sum.end()) / kParameters / (kRounds / 2);
            }
            return mean;
        };
        CHECK(std::abs(mean_of("on")) < 0.1);
        CHECK(mean_of("off") > 0.5);
    }

    TEST_CASE("a value that cannot be encoded leaves what is kept as it was") {
        Client client({.kind = "sign"});
        client.send(random_update(1), true);
        const auto before = client.residual();
        std::vector<float> bad = random_update(2);
        bad[5] = std::numeric_limits<float>::infinity();
        CHECK_THROWS_AS(client.send(bad, true), TrainingError);
        CHECK(client.residual() == before);
    }

    TEST_CASE("what is lost of the update and the residual before it is told") {
        const Schema small = schema();
        const TemporaryFolder folder;
        const auto codec = make_codec({.kind = "sign"}, small);
        ErrorFeedback feedback(*codec, ResidualStore(folder.path(), kParameters), kParameters);
        std::vector<float> before(kParameters);
        for (std::uint32_t round = 1; round <= 3; ++round) {
            std::vector<float> given = random_update(round);
            std::vector<float> update = given;
            std::vector<std::byte> payload;
            feedback.begin({.round = round, .client = 3, .counted = round - 1});
            const std::span<const float> lost = feedback.encode(update, {}, payload);
            std::vector<float> decoded(kParameters);
            codec->decode(payload, {}, decoded);
            for (std::size_t i = 0; i < kParameters; ++i) {
                CHECK(update[i] == given[i] + before[i]);
                CHECK(lost[i] == update[i] - decoded[i]);
            }
            before.assign(lost.begin(), lost.end());
        }
    }

    TEST_CASE("a plan that counts a round to come is refused") {
        const Schema small = schema();
        const TemporaryFolder folder;
        const auto codec = make_codec({.kind = "sign"}, small);
        ErrorFeedback feedback(*codec, ResidualStore(folder.path(), kParameters), kParameters);
        CHECK_THROWS_AS(feedback.begin({.round = 4, .client = 0, .counted = 4}), FormatError);
    }

    TEST_CASE("a straggler, whose client another worker has taken on meanwhile, sends nothing and takes nothing away") {
        const Schema small = schema();
        const TemporaryFolder folder;
        const auto codec = make_codec({.kind = "sign"}, small);
        ErrorFeedback slow(*codec, ResidualStore(folder.path(), kParameters), kParameters);
        ErrorFeedback fast(*codec, ResidualStore(folder.path(), kParameters), kParameters);
        std::vector<std::byte> payload;
        const auto send = [&](ErrorFeedback& worker, std::uint32_t round) {
            std::vector<float> update = random_update(round);
            worker.encode(update, {}, payload);
        };
        const auto left_of = [&](std::uint32_t round) {
            std::vector<float> values(kParameters);
            ResidualStore(folder.path(), kParameters).load(7, round, values);
            return values;
        };
        fast.begin({.round = 3, .client = 7, .counted = 0});
        send(fast, 3);
        slow.begin({.round = 8, .client = 7, .counted = 3});
        fast.begin({.round = 9, .client = 7, .counted = 3});
        send(fast, 9);
        const auto left = left_of(9);
        CHECK(left != std::vector<float>(kParameters));
        CHECK_THROWS_WITH_AS(send(slow, 8), doctest::Contains("round 8 is over"), FormatError);
        CHECK(left_of(9) == left);
        slow.begin({.round = 10, .client = 7, .counted = 9});
        CHECK_NOTHROW(send(slow, 10));
        CHECK(left_of(9) == left);
    }
}
