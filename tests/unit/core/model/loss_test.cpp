#include "core/model/loss.hpp"

#include "core/error.hpp"
#include "tests/unit/gradient_check.hpp"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>

namespace dither {
namespace {

using testing::random_tensor;

Targets labels(std::vector<std::int32_t> values) {
    Targets targets;
    targets.labels = std::move(values);
    return targets;
}

TEST_SUITE("core/model/loss") {
    TEST_CASE("equal outputs cost log(classes), and the first of them counts as the answer") {
        const auto loss = make_loss("cross_entropy");
        const Score score = loss->evaluate(Tensor({2, 10}), labels({0, 3}), nullptr);
        CHECK(score.mean_loss() == doctest::Approx(std::log(10.0)));
        CHECK(score.samples == 2);
        CHECK(score.correct == 1);
        CHECK(score.accuracy() == 0.5);
    }

    TEST_CASE("cross entropy of huge outputs does not overflow") {
        const auto loss = make_loss("cross_entropy");
        Tensor output({1, 2});
        output.data()[0] = 10000;
        output.data()[1] = -10000;
        Tensor gradient;
        CHECK(loss->evaluate(output, labels({0}), &gradient).loss == 0);
        CHECK(gradient.data()[0] == 0);
        CHECK(loss->evaluate(output, labels({1}), nullptr).loss == 20000);
    }

    TEST_CASE("a NaN in the output is a NaN in the loss") {
        Tensor output({1, 2});
        output.data()[1] = std::nanf("");
        CHECK(std::isnan(make_loss("cross_entropy")->evaluate(output, labels({0}), nullptr).loss));
    }

    TEST_CASE("mse is the mean over the outputs, summed over the samples") {
        const auto loss = make_loss("mse");
        Tensor output({2, 2});
        std::ranges::copy(std::array{1.0F, 2.0F, 3.0F, 4.0F}, output.data());
        Targets targets;
        targets.values = Tensor({2, 2});
        const Score score = loss->evaluate(output, targets, nullptr);
        CHECK(score.loss == doctest::Approx((1.0 + 4.0) / 2 + (9.0 + 16.0) / 2));
        CHECK(score.correct == 0);
        CHECK(score.squared_error == score.loss);
        CHECK(score.absolute_error == doctest::Approx((1.0 + 2.0) / 2 + (3.0 + 4.0) / 2));
    }

    TEST_CASE("the gradients of both losses agree with central differences of the mean loss") {
        Targets targets = labels({4, 0, 2});
        targets.values = random_tensor({3, 5}, 2);
        for (const char* name : {"cross_entropy", "mse"}) {
            CAPTURE(name);
            const auto loss = make_loss(name);
            Tensor output = random_tensor({3, 5}, 1);
            Tensor gradient;
            loss->evaluate(output, targets, &gradient);
            CHECK(testing::worst_gradient_error(output.values(), gradient.values(), 0.01F, [&] {
                      return loss->evaluate(output, targets, nullptr).mean_loss();
                  }) < 1e-3);
        }
    }

    TEST_CASE("the gradient of cross entropy is softmax minus the label, and has the same bits on every processor") {
        Tensor output({1, 3});
        std::ranges::copy(std::array{0.25F, -1.5F, 2.0F}, output.data());
        Tensor gradient;
        make_loss("cross_entropy")->evaluate(output, labels({0}), &gradient);
        const double total = std::exp(0.25) + std::exp(-1.5) + std::exp(2.0);
        CHECK(gradient.data()[0] == doctest::Approx(std::exp(0.25) / total - 1));
        CHECK(gradient.data()[1] == doctest::Approx(std::exp(-1.5) / total));
        CHECK(gradient.data()[2] == doctest::Approx(std::exp(2.0) / total));
        CHECK(std::bit_cast<std::uint32_t>(gradient.data()[1]) == 0x3ccd77aeU);
        CHECK(std::bit_cast<std::uint32_t>(gradient.data()[2]) == 0x3f54a131U);
    }

    TEST_CASE("smoothed labels give the others a share, and their gradient agrees with central differences") {
        const double share = 0.1;
        const auto smoothed = make_loss("cross_entropy", share);
        const auto plain = make_loss("cross_entropy");
        Tensor output = random_tensor({3, 5}, 1);
        const Targets targets = labels({4, 0, 2});
        double spread = 0;  // over all classes as labels
        for (std::int32_t label = 0; label < 5; ++label)
            spread += plain->evaluate(output, labels({label, label, label}), nullptr).loss / 5;
        const Score score = smoothed->evaluate(output, targets, nullptr);
        const Score exact = plain->evaluate(output, targets, nullptr);
        CHECK(score.loss == doctest::Approx((1 - share) * exact.loss + share * spread));
        CHECK(score.correct == exact.correct);
        Tensor gradient;
        smoothed->evaluate(output, targets, &gradient);
        CHECK(testing::worst_gradient_error(output.values(), gradient.values(), 0.01F, [&] {
                  return smoothed->evaluate(output, targets, nullptr).mean_loss();
              }) < 1e-3);
    }

    TEST_CASE("the gradient of a smoothed loss is zero at the smoothed target") {
        const double share = 0.3;
        Tensor output({1, 3});
        std::ranges::copy(std::array{std::log(0.8F), std::log(0.1F), std::log(0.1F)}, output.data());
        Tensor gradient;
        make_loss("cross_entropy", share)->evaluate(output, labels({0}), &gradient);
        for (const float value : gradient.values())
            CHECK(std::abs(value) < 1e-6);
    }

    TEST_CASE("a loss of one label that is all spread is refused") {
        CHECK_THROWS_AS(make_loss("cross_entropy", 1), PreconditionError);
        CHECK_THROWS_AS(make_loss("cross_entropy", -0.1), PreconditionError);
    }

    TEST_CASE("products with the losses' Hessians agree with central differences of their gradients") {
        Targets targets = labels({4, 0, 2});
        targets.values = random_tensor({3, 5}, 2);
        const std::pair<const char*, double> cases[] = {{"cross_entropy", 0}, {"cross_entropy", 0.3}, {"mse", 0}};
        for (const auto& [name, smoothing] : cases) {
            CAPTURE(name);
            CAPTURE(smoothing);
            const auto loss = make_loss(name, smoothing);
            const Tensor output = random_tensor({3, 5}, 1);
            const Tensor direction = random_tensor({3, 5}, 3);
            Tensor product;
            loss->curvature_product(output, targets, direction, product);
            Tensor gradients[2];
            for (const int side : {0, 1}) {
                Tensor moved = output;
                for (std::size_t i = 0; i < moved.values().size(); ++i)
                    moved.values()[i] += (side == 0 ? 0.01F : -0.01F) * direction.values()[i];
                loss->evaluate(moved, targets, &gradients[side]);
            }
            for (std::size_t i = 0; i < product.values().size(); ++i) {
                const float difference = (gradients[0].values()[i] - gradients[1].values()[i]) / 0.02F;
                CHECK(product.values()[i] == doctest::Approx(difference).epsilon(1e-3).scale(0.1));
            }
        }
        CHECK_THROWS_AS(make_loss("mse")->curvature_product(Tensor({1, 3}), targets, Tensor({1, 2}), targets.values),
                        PreconditionError);
    }

    TEST_CASE("an unknown loss is refused, as are targets that do not fit the output") {
        CHECK_THROWS_AS(make_loss("hinge"), InputError);
        CHECK_THROWS_AS(make_loss("cross_entropy")->evaluate(Tensor({2, 3}), labels({0}), nullptr), PreconditionError);
        CHECK_THROWS_AS(make_loss("cross_entropy")->evaluate(Tensor({1, 3}), labels({3}), nullptr), PreconditionError);
        CHECK_THROWS_AS(make_loss("mse")->evaluate(Tensor({1, 3}), labels({1}), nullptr), PreconditionError);
    }
}

}  // namespace
}  // namespace dither
