// Two spirals, one inside the other: data that is made and not read.
#pragma once

#include "core/config.hpp"
#include "core/data/dataset.hpp"

#include <cmath>
#include <utility>
#include <vector>

namespace guide {

inline dither::Dataset make_spirals(std::size_t count, std::uint32_t seed, std::uint32_t lane) {
    dither::Stream stream({.seed = seed, .purpose = dither::Purpose::synthetic_data, .lane = lane});
    std::vector<float> values;
    std::vector<std::int32_t> labels;
    for (std::size_t i = 0; i < count; ++i) {
        const auto label = static_cast<std::int32_t>(i % 2);
        const float turn = 6 * stream.uniform();
        const float angle = turn + 3.14159265F * static_cast<float>(label);
        values.push_back(turn / 6 * std::cos(angle));
        values.push_back(turn / 6 * std::sin(angle));
        labels.push_back(label);
    }
    const dither::Shape sample{1, 2};
    return {sample, std::move(values), std::move(labels), /*classes=*/2, /*targets=*/{}, /*outputs=*/2};
}

inline dither::DataSplits make_data(const dither::Job& job) {
    return {.train = make_spirals(2000, job.job.seed, 0),
            .test = make_spirals(500, job.job.seed, 1),
            .preparation = {.classes = 2},
            .notes = {"two spirals of 2000 and 500 points"}};
}

}  // namespace guide
