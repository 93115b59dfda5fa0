// What dither-evaluate found out, as a table for people and as JSON for programs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/data/corruption.hpp"
#include "core/model/evaluate.hpp"
#include "core/model/flatness.hpp"
#include "core/noise/errors.hpp"

namespace dither {

struct Quality {
    std::optional<double> accuracy;  ///< absent for regression
    double loss = 0;
    std::optional<RegressionErrors> errors{};  ///< absent for classification
};

struct Speed {
    double latency_seconds = 0;  ///< of one sample
    double per_second = 0;       ///< samples, in batches
};

/// One way to run the model.
struct Variant {
    Quality quality;
    double bytes = 0;
    double bit_ops = 0;        ///< sum of weight bits * activation bits * multiply-accumulates, of one sample
    double arithmetic_pj = 0;  ///< of one sample, an estimate (core/precision/energy.hpp)
    double weights_pj = 0;     ///< of reading the weights once
    std::optional<Speed> speed;
};

struct LayerReport {
    std::string name;
    std::size_t parameters = 0;
    int weight_bits = 32;
    int activation_bits = 32;
    std::string scheme;       ///< of the weights; empty at 32 bits
    std::string activations;  ///< scheme of the activations
    std::string observer;     ///< of the activations
    double bytes = 0;         ///< packed: codes, scales, biases
    double macs = 0;          ///< of one sample
    double bit_ops = 0;
    double arithmetic_pj = 0;
};

struct CorruptionReport {
    Corruption corruption;
    std::optional<Quality> fp32;
    std::optional<Quality> quantized;
};

/// How flat the loss is around the model, in fp32.
struct FlatnessReport {
    struct Layer {
        std::string name;
        double hessian_norm = 0;  ///< spectral norm of the layer's block of the Hessian
    };

    std::uint32_t directions = 0;
    LossAlongDirections along;
    std::size_t hessian_samples = 0;
    std::vector<Layer> layers;

    /// The largest block's: the norm of the whole Hessian is at least that.
    double hessian_norm() const;
};

struct ConversionReport {
    std::string file;  ///< empty: not written
    std::size_t bytes = 0;
    std::uint64_t identical = 0;  ///< samples whose outputs have the same bits as the quantized forward pass
    std::uint64_t samples = 0;    ///< compared; 0: not verified
};

struct Report {
    std::string model;  ///< the file
    std::string kind;   ///< "checkpoint" or "integer"
    std::string name;
    std::uint32_t round = 0;  ///< of a checkpoint
    bool averaged = false;
    std::string data;
    std::size_t samples = 0;
    std::uint32_t calibration = 0;  ///< samples; 0: ranges were not calibrated here
    std::string cpu;
    std::string instructions;
    std::int64_t batch = 0;
    std::size_t parameters = 0;
    double macs = 0;
    std::optional<Variant> fp32;
    std::optional<Variant> quantized;
    std::string no_integer_form;  ///< why; empty where there is one, or nothing is quantized
    std::vector<LayerReport> layers;
    std::vector<CorruptionReport> corruptions;
    std::optional<FlatnessReport> flatness;
    std::optional<ConversionReport> conversion;
    int errors_bits = 0;
    std::vector<LayerErrors> errors;
};

/// "W8 per_channel_symmetric, A8 per_tensor_affine": of the layers with products, where they agree.
std::string in_words(std::span<const LayerReport> layers);
std::string to_table(const Report& report);
/// One object, on several lines.
std::string to_json(const Report& report);

}  // namespace dither
