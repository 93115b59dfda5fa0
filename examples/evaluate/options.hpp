// What the command line of dither-evaluate says.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/data/corruption.hpp"
#include "core/model/evaluate.hpp"

namespace dither {

inline constexpr std::uint32_t kCalibrationSamples = 100;

struct EvaluateOptions {
    std::string model;
    std::string data;                          ///< empty: the job's data.path
    std::vector<std::string> overrides;        ///< of the job's keys
    std::optional<int> weights;                ///< bits; neither: the plan that the run evaluated with
    std::optional<int> activations;            ///< bits; one without the other: the other operand stays in fp32
    std::string scheme;                        ///< of the weights; empty: the job's
    std::string observer;                      ///< of weights and activations; empty: the job's
    std::optional<std::uint32_t> calibration;  ///< training samples; absent: kCalibrationSamples
    std::vector<Corruption> corruptions;
    bool average = true;         ///< take the averaged model, where there is one
    std::string convert;         ///< the file to write
    int errors = 0;              ///< bits whose rounding errors are measured; 0: none
    std::uint32_t flatness = 0;  ///< random directions along which the loss is measured; 0: none
    bool json = false;
    std::int64_t batch = kEvaluationBatch;  ///< of the throughput
    std::uint64_t limit = 0;                ///< test samples at most; 0: all

    /// Whether anything says how to quantize.
    bool quantizes() const { return weights || activations || !scheme.empty() || !observer.empty(); }
};

}  // namespace dither
