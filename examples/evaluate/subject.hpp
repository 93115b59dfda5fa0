// A trained network as a checkpoint holds it, with what the command line changes about its quantization, and its data.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/compute/backend.hpp"
#include "core/config.hpp"
#include "core/data/dataset.hpp"
#include "core/model/model.hpp"
#include "core/precision/plan.hpp"
#include "examples/evaluate/options.hpp"

namespace dither {

/// Models borrow its backend, so it must outlive them.
class Subject {
public:
    /// Reads the checkpoint and the data. Throws InputError that says what was expected of the file, an option or the
    /// data.
    explicit Subject(const EvaluateOptions& options);

    const Job& job() const { return job_; }
    const Schema& schema() const { return schema_; }  ///< of the job's model with the options' quantization
    const PrecisionPlan& plan() const { return plan_; }
    const Dataset& train() const { return data_->train; }
    const Dataset& test() const { return data_->test; }
    std::uint32_t round() const { return round_; }
    bool averaged() const { return averaged_; }
    const Backend& backend() const { return *backend_; }
    /// Of evaluations, and of everything random about them.
    StreamKey key() const;
    /// Whether any layer has fewer than 32 bits.
    bool is_quantized() const;
    /// Training samples drawn by the job's seed; none where nothing asks for them.
    const std::vector<std::uint32_t>& calibration() const { return calibration_; }

    /// The network with the trained parameters.
    std::unique_ptr<Model> model(std::int64_t max_batch) const;

private:
    void choose_quantization(const EvaluateOptions& options);
    void choose_widths(const EvaluateOptions& options);
    void load_data_splits(std::uint64_t limit);
    void place_parameters(const Schema& stored, std::span<const float> values, const std::string& file);
    std::unique_ptr<Model> blank_model(std::int64_t max_batch) const;
    void draw_calibration(std::uint32_t count);

    Job job_;
    Schema schema_;
    std::vector<float> parameters_;
    PrecisionPlan plan_;
    std::uint32_t round_ = 0;
    bool averaged_ = false;
    std::unique_ptr<DataSplits> data_;
    std::unique_ptr<Backend> backend_;
    std::vector<std::uint32_t> calibration_;
};

/// Parameters of a layer that it multiplies and adds nothing with: the learned ranges of its operands.
bool is_range(const TensorSpec& tensor);

}  // namespace dither
