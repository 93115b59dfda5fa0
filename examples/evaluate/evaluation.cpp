#include "examples/evaluate/evaluation.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <numeric>

#include "core/durable_file.hpp"
#include "core/error.hpp"
#include "core/inference/integer_network.hpp"
#include "core/model/calibrate.hpp"
#include "core/model/flatness.hpp"
#include "core/precision/curvature.hpp"
#include "core/version.hpp"
#include "examples/evaluate/cost.hpp"
#include "examples/evaluate/subject.hpp"

namespace dither {
namespace {

constexpr std::string_view kCheckpointMagic = "DITHMDL1";
/// The same for everyone, so that corrupted images are, whoever trained on which seed.
constexpr std::uint32_t kCorruptionSeed = 1;

/// Of --flatness: Hessians take many passes over their samples, and the steps are up to what 3 bits round away.
constexpr std::size_t kHessianSamples = 100;
constexpr std::array kRadii{0.0, 0.05, 0.1, 0.2, 0.3, 0.5};

/// inputs -> outputs, [batch, outputs]
using Forward = std::function<Tensor(const Tensor&)>;

Quality quality_of(const Score& score, const Dataset& data) {
    Quality quality{.accuracy = {}, .loss = score.mean_loss(), .errors = regression_errors(score, data)};
    if (data.classes() > 0)
        quality.accuracy = score.accuracy();
    return quality;
}

/// Calls visit(batch) for batches of the data, in order.
void for_each_batch(const Dataset& data, std::int64_t size, const std::function<void(const Batch&)>& visit) {
    Batch batch;
    std::vector<std::uint32_t> indices;
    for (std::size_t begin = 0; begin < data.size(); begin += indices.size()) {
        indices.resize(std::min(static_cast<std::size_t>(size), data.size() - begin));
        std::iota(indices.begin(), indices.end(), static_cast<std::uint32_t>(begin));
        data.gather(indices, batch);
        visit(batch);
    }
}

Tensor inputs_of(const Dataset& data, std::int64_t size) {
    std::vector<std::uint32_t> indices(static_cast<std::size_t>(size));
    for (std::size_t i = 0; i < indices.size(); ++i)
        indices[i] = static_cast<std::uint32_t>(i % data.size());
    Batch batch;
    data.gather(indices, batch);
    return std::move(batch.inputs);
}

Speed speed_of(const Forward& forward, const Dataset& data, std::int64_t batch) {
    const Tensor one = inputs_of(data, 1);
    const Tensor many = inputs_of(data, batch);
    return {.latency_seconds = median_seconds([&] { forward(one); }),
            .per_second = static_cast<double>(batch) / median_seconds([&] { forward(many); })};
}

Speed speed_of(IntegerNetwork& network, const Dataset& data) {
    return speed_of([&network](const Tensor& x) { return network.run(x).share(); }, data, network.max_batch());
}

void describe_place(Report& report, const EvaluateOptions& options, const Backend& backend) {
    report.model = options.model;
    report.cpu = cpu_name();
    report.instructions = fmt::format("{} ({})", backend.name(), backend.instruction_set());
    report.batch = options.batch;
}

void describe_costs(Report& report) {
    for (const LayerReport& layer : report.layers) {
        report.parameters += layer.parameters;
        report.macs += layer.macs;
    }
}

/// A converted model's name has no control characters.
std::string printable(std::string name) {
    std::ranges::replace_if(
        name, [](unsigned char c) { return c < 0x20 || c == 0x7f; }, ' ');
    return name;
}

/// A run's model, at full precision and as the options quantize it.
class CheckpointEvaluation {
public:
    explicit CheckpointEvaluation(const EvaluateOptions& options)
        : options_(options),
          subject_(options),
          loss_(make_loss(subject_.job().train.loss)),
          model_(subject_.model(std::max(kEvaluationBatch, std::ssize(subject_.calibration())))) {
        if (subject_.is_quantized())
            calibrate(*model_, subject_.train(), subject_.calibration(), subject_.plan());
    }

    Report run() {
        describe();
        convert_if_possible();
        report_.fp32 = full_cost_of(report_.layers);
        report_.fp32->quality = score(subject_.test(), nullptr);
        report_.fp32->speed = full_speed();
        if (subject_.is_quantized()) {
            report_.quantized = cost_of(report_.layers);
            report_.quantized->quality = score(subject_.test(), &subject_.plan());
        }
        for (const Corruption& corruption : options_.corruptions)
            add_corruption(corruption);
        if (options_.errors > 0)
            add_errors();
        if (options_.flatness > 0)
            add_flatness();
        if (integer_)
            add_integer();
        return std::move(report_);
    }

private:
    void describe() {
        describe_place(report_, options_, subject_.backend());
        report_.kind = "checkpoint";
        report_.name = subject_.job().job.name;
        report_.round = subject_.round();
        report_.averaged = subject_.averaged();
        report_.data = subject_.job().data.path;
        report_.samples = subject_.test().size();
        report_.calibration = subject_.is_quantized() ? static_cast<std::uint32_t>(subject_.calibration().size()) : 0;
        report_.errors_bits = options_.errors;
        report_.layers = layers_of(subject_);
        describe_costs(report_);
    }

    Quality score(const Dataset& data, const PrecisionPlan* plan) {
        return quality_of(evaluate(*model_, *loss_, data, plan, subject_.key(), Ranges::kept), data);
    }

    void convert_if_possible() {
        if (!subject_.is_quantized()) {
            if (!options_.convert.empty())
                throw InputError("--convert: expected a quantized model: --weights and --activations of 2 .. 8 bits");
            return;
        }
        try {
            integer_ = convert(*model_, subject_.plan());
        } catch (const InputError& error) {
            if (!options_.convert.empty())
                throw;
            report_.no_integer_form = error.what();
            return;
        }
        integer_->name = printable(subject_.job().job.name);
        integer_->quantization = in_words(report_.layers);
        integer_->scaling.assign(subject_.test().scaling().begin(), subject_.test().scaling().end());
    }

    Speed full_speed() {
        const auto model = subject_.model(options_.batch);
        return speed_of([&model](const Tensor& x) { return model->forward(x, {.keep = false}); }, subject_.test(),
                        options_.batch);
    }

    void add_corruption(const Corruption& corruption) {
        const Dataset data = corrupt(subject_.test(), corruption, kCorruptionSeed);
        CorruptionReport row{.corruption = corruption, .fp32 = score(data, nullptr), .quantized = {}};
        if (subject_.is_quantized())
            row.quantized = score(data, &subject_.plan());
        report_.corruptions.push_back(std::move(row));
    }

    void add_errors() {
        const auto model = subject_.model(model_->max_batch());
        report_.errors =
            measure_errors(*model, subject_.train(), subject_.calibration(), subject_.job().quantize, options_.errors);
    }

    void add_flatness() {
        const auto model = subject_.model(model_->max_batch());
        std::vector<std::uint32_t> first(std::min<std::size_t>(kHessianSamples, subject_.test().size()));
        std::iota(first.begin(), first.end(), 0U);
        Batch batch;
        subject_.test().gather(first, batch);
        std::vector<LayerStatistics> statistics(model->schema().layer_count());
        CurvatureProbe().measure(*model, *loss_, batch, Probe::curvature_norm, subject_.key(), statistics);

        FlatnessReport flatness{
            .directions = options_.flatness, .along = {}, .hessian_samples = first.size(), .layers = {}};
        for (std::size_t i = 0; i < statistics.size(); ++i)
            flatness.layers.push_back({model->schema().layers()[i].name, statistics[i].curvature_norm});
        flatness.along =
            loss_along_directions(*model, *loss_, subject_.test(), kRadii, options_.flatness, subject_.key());
        report_.flatness = std::move(flatness);
    }

    void add_integer() {
        IntegerNetwork network(*integer_, options_.batch);
        report_.quantized->speed = speed_of(network, subject_.test());
        const std::vector<std::byte> bytes = serialize(*integer_);
        report_.conversion = {.file = options_.convert, .bytes = bytes.size(), .identical = 0, .samples = 0};
        if (options_.convert.empty())
            return;
        verify();
        if (report_.conversion->identical == report_.conversion->samples)
            write_durably(options_.convert, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    }

    /// Counts the samples whose outputs have the same bits in the quantized forward pass and in the integer network.
    void verify() {
        IntegerNetwork network(*integer_, model_->max_batch());
        Pass pass{.plan = &subject_.plan(), .key = subject_.key(), .keep = false};
        for_each_batch(subject_.test(), model_->max_batch(), [&](const Batch& batch) {
            const Tensor expected = model_->forward(batch.inputs, pass);
            const Tensor& found = network.run(batch.inputs);
            for (std::int64_t i = 0; i < expected.shape()[0]; ++i) {
                const std::span<const float> row = expected.item(i);
                const bool same = std::memcmp(row.data(), found.item(i).data(), row.size_bytes()) == 0;
                report_.conversion->identical += same ? 1 : 0;
                ++report_.conversion->samples;
            }
            ++pass.key.step;
        });
    }

    const EvaluateOptions& options_;
    Subject subject_;
    std::unique_ptr<Loss> loss_;
    std::unique_ptr<Model> model_;
    std::optional<IntegerModel> integer_;
    Report report_;
};

[[noreturn]] void fail_for_converted(const EvaluateOptions& options, std::string_view option) {
    throw InputError(fmt::format("{}: expected a checkpoint for {}: a converted model is quantized for good",
                                 options.model, option));
}

void require_no_change(const EvaluateOptions& options) {
    if (options.quantizes())
        fail_for_converted(options, "--weights, --activations, --scheme and --observer");
    if (options.calibration)
        fail_for_converted(options, "--calibration");
    if (!options.average)
        fail_for_converted(options, "--no-average");
    for (const std::string& setting : options.overrides)
        if (!setting.starts_with("data.") && !setting.starts_with("job.seed="))
            fail_for_converted(options, fmt::format("--set {}", setting));
    if (!options.convert.empty())
        fail_for_converted(options, "--convert");
    if (options.errors > 0)
        fail_for_converted(options, "--errors");
    if (options.flatness > 0)
        fail_for_converted(options, "--flatness");
    if (options.data.empty())
        throw InputError(
            fmt::format("{}: expected --data PATH: a converted model does not say where its data are", options.model));
}

/// A converted model says nothing about the format of its data.
std::string format_at(const std::filesystem::path& path) {
    if (!std::filesystem::exists(path))
        throw InputError(fmt::format("--data {}: expected a folder of IDX or CIFAR files, or a table", path.string()));
    if (std::filesystem::is_regular_file(path))
        return "csv";
    for (const char* name : {"t10k-images-idx3-ubyte", "t10k-images-idx3-ubyte.gz"})
        if (std::filesystem::exists(path / name))
            return "idx";
    return "cifar";
}

Dataset test_data_for(const IntegerModel& model, const EvaluateOptions& options) {
    Job job =
        parse_job(fmt::format("[data]\nformat = \"{}\"\n", format_at(options.data)), options.model, options.overrides);
    job.data.path = options.data;
    Dataset data = load_data(job.data, job.job.seed).test;
    if (data.sample_shape() != model.sample || data.outputs() != model.outputs)
        throw InputError(fmt::format("{}: has samples of shape {} and {} outputs, expected {} and {} for {}",
                                     options.data, data.sample_shape().str(), data.outputs(), model.sample.str(),
                                     model.outputs, options.model));
    if (options.limit > 0)
        data = data.first(options.limit);
    if (model.scaling.empty() || data.pixels().empty())
        return data;
    return {data.sample_shape(), std::vector<std::uint8_t>(data.pixels().begin(), data.pixels().end()),
            std::vector<std::int32_t>(data.labels().begin(), data.labels().end()), data.classes(), model.scaling};
}

Report evaluate_converted(const EvaluateOptions& options, const IntegerModel& model, std::size_t file_bytes) {
    require_no_change(options);
    const Dataset data = test_data_for(model, options);
    const auto loss = make_loss(data.classes() > 0 ? "cross_entropy" : "mse");
    const auto backend = make_backend({});
    IntegerNetwork network(model, options.batch);
    const auto score = [&](const Dataset& samples) {
        Score total;
        for_each_batch(samples, network.max_batch(), [&](const Batch& batch) {
            total += loss->evaluate(network.run(batch.inputs), batch.targets, nullptr);
        });
        return quality_of(total, samples);
    };

    Report report;
    describe_place(report, options, *backend);
    report.kind = "integer";
    report.name = model.name;
    report.data = options.data;
    report.samples = data.size();
    report.layers = layers_of(model);
    describe_costs(report);
    report.quantized = cost_of(report.layers);
    report.quantized->quality = score(data);
    report.quantized->speed = speed_of(network, data);
    for (const Corruption& corruption : options.corruptions)
        report.corruptions.push_back(
            {.corruption = corruption, .fp32 = {}, .quantized = score(corrupt(data, corruption, kCorruptionSeed))});
    report.conversion = {.file = "", .bytes = file_bytes, .identical = 0, .samples = 0};
    return report;
}

void require_writable(const std::filesystem::path& file) {
    const std::filesystem::path folder = file.has_parent_path() ? file.parent_path() : ".";
    if (!std::filesystem::is_directory(folder) || ::access(folder.c_str(), W_OK | X_OK) != 0)
        throw InputError(fmt::format("--convert {}: expected a file in a folder that can be written", file.string()));
    if (std::filesystem::is_directory(file))
        throw InputError(fmt::format("--convert {}: expected a file, found a folder", file.string()));
}

std::string read_file(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    if (!in || std::filesystem::is_directory(path))
        throw InputError(
            fmt::format("{}: cannot open the model: expected a run's model.dither or a converted model", path));
    return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace

Report evaluate_file(const EvaluateOptions& options) {
    const std::string bytes = read_file(options.model);
    if (!options.convert.empty())
        require_writable(options.convert);
    if (bytes.starts_with(kCheckpointMagic))
        return CheckpointEvaluation(options).run();
    std::optional<IntegerModel> model;
    try {
        model = deserialize_integer_model(std::as_bytes(std::span(bytes)));
    } catch (const FormatError& error) {
        throw InputError(
            fmt::format("{}: expected a run's model.dither, which starts with {}, or a converted model: {}",
                        options.model, kCheckpointMagic, error.what()));
    }
    return evaluate_converted(options, *model, bytes.size());
}

}  // namespace dither
