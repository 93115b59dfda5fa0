#include "core/optim/local_progress.hpp"

#include <doctest/doctest.h>

#include <cmath>

using namespace dither;

TEST_SUITE("core/optim/local_progress") {
    TEST_CASE("plain steps go as far as there are steps") {
        TrainOptions train;
        train.optimizer.momentum = 0;
        CHECK(local_progress(train, 0) == 0);
        CHECK(local_progress(train, 1) == 1);
        CHECK(local_progress(train, 17) == 17);
    }

    TEST_CASE("with momentum they go as far as the paper's closed form says") {
        TrainOptions train;
        train.optimizer.momentum = 0.9;
        const double expected = (20 - 0.9 * (1 - std::pow(0.9, 20)) / (1 - 0.9)) / (1 - 0.9);
        CHECK(local_progress(train, 20) == doctest::Approx(expected).epsilon(1e-12));
        train.optimizer.nesterov = true;
        CHECK(local_progress(train, 20) > expected);
    }

    TEST_CASE("a proximal term keeps them as near as the paper's closed form says") {
        TrainOptions train;
        train.optimizer.lr = 0.1;
        train.optimizer.momentum = 0;
        train.proximal = 0.5;
        CHECK(local_progress(train, 30) == doctest::Approx((1 - std::pow(0.95, 30)) / 0.05).epsilon(1e-12));
    }

    TEST_CASE("a pull that overshoots takes nothing away: magnitudes are summed") {
        TrainOptions train;
        train.optimizer.lr = 1;
        train.optimizer.momentum = 0;
        train.proximal = 2;  // the change is -g1 + g2: it cancels where the gradients are alike
        CHECK(local_progress(train, 2) == 2);
    }
}
