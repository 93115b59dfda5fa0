#include "aggregator/detail/checkpoint_body.hpp"

#include "aggregator/detail/bounded_input.hpp"
#include "core/error.hpp"

#include <algorithm>
#include <array>
#include <functional>
#include <new>
#include <ostream>
#include <span>
#include <streambuf>

#include <cereal/archives/portable_binary.hpp>
#include <cereal/types/array.hpp>
#include <cereal/types/optional.hpp>
#include <cereal/types/string.hpp>
#include <cereal/types/vector.hpp>

namespace cereal {

/// As a vector of floats, of which it is a view.
template <typename Archive>
void save(Archive& archive, const std::span<const float>& values) {
    archive(make_size_tag(static_cast<size_type>(values.size())));
    archive(binary_data(values.data(), values.size_bytes()));
}

}  // namespace cereal

namespace dither {

// The body's fields in order, one function a type. A later version appends fields to serialize_body, behind
// `if (version >= n)`; the other types never change.

template <typename Archive>
void save(Archive& archive, const Shape& shape) {
    archive(static_cast<std::uint8_t>(shape.rank()));
    for (int axis = 0; axis < shape.rank(); ++axis)
        archive(shape[axis]);
}

template <typename Archive>
void load(Archive& archive, Shape& shape) {
    std::uint8_t rank = 0;
    archive(rank);
    std::array<std::int64_t, Shape::kMaxRank> extents{};
    if (rank > extents.size())
        throw FormatError(fmt::format("a shape of rank {}", rank));
    constexpr std::int64_t kMost = std::int64_t{1} << 48;  // of any product of extents
    std::int64_t product = 1;
    for (int axis = 0; axis < rank; ++axis) {
        std::int64_t& extent = extents[static_cast<std::size_t>(axis)];
        archive(extent);
        if (extent < 0 || extent > kMost / std::max<std::int64_t>(product, 1))
            throw FormatError(fmt::format("a shape with an extent of {}", extent));
        product *= extent;
    }
    const std::array<Shape, Shape::kMaxRank + 1> of_rank{Shape{}, Shape{extents[0]}, Shape{extents[0], extents[1]},
                                                         Shape{extents[0], extents[1], extents[2]},
                                                         Shape{extents[0], extents[1], extents[2], extents[3]}};
    shape = of_rank[rank];
}

template <typename Archive>
void save(Archive& archive, const TensorSpec& spec) {
    archive(spec.name, spec.shape, std::uint64_t{spec.offset});
}

template <typename Archive>
void load(Archive& archive, TensorSpec& spec) {
    std::uint64_t offset = 0;
    archive(spec.name, spec.shape, offset);
    spec.offset = offset;
}

template <typename Archive>
void save(Archive& archive, const LayerSpec& spec) {
    archive(spec.name, std::uint64_t{spec.offset}, std::uint64_t{spec.count}, spec.tensors, spec.macs);
}

template <typename Archive>
void load(Archive& archive, LayerSpec& spec) {
    std::uint64_t offset = 0;
    std::uint64_t count = 0;
    archive(spec.name, offset, count, spec.tensors, spec.macs);
    spec.offset = offset;
    spec.count = count;
}

template <typename Archive>
void save(Archive& archive, const Schema& schema) {
    archive(std::vector<LayerSpec>(schema.layers().begin(), schema.layers().end()));
}

template <typename Archive>
void load(Archive& archive, Schema& schema) {
    std::vector<LayerSpec> layers;
    archive(layers);
    schema = Schema(std::move(layers));
}

template <typename Archive>
void save(Archive& archive, const LayerBits& bits) {
    for (const Phase phase : kPhases)
        archive(static_cast<std::int32_t>(bits[phase]));
}

template <typename Archive>
void load(Archive& archive, LayerBits& bits) {
    for (const Phase phase : kPhases) {
        std::int32_t width = 0;
        archive(width);
        bits[phase] = width;
    }
}

/// The payload as a string would be: its length, and the bytes at once.
template <typename Archive>
void save(Archive& archive, const ModelPart& part) {
    archive(part.round, part.steps, cereal::make_size_tag(static_cast<cereal::size_type>(part.payload.size())),
            cereal::binary_data(part.payload.data(), part.payload.size()));
}

template <typename Archive>
void load(Archive& archive, ModelPart& part) {
    cereal::size_type count = 0;
    archive(part.round, part.steps, cereal::make_size_tag(count));
    std::vector<std::byte> payload(static_cast<std::size_t>(count));
    archive(cereal::binary_data(reinterpret_cast<unsigned char*>(payload.data()), payload.size()));
    part.payload = std::move(payload);
}

template <typename Archive>
void serialize(Archive& archive, ControlStep& control) {
    archive(control.keep, control.gain);
}

template <typename Archive, typename Value>
void save(Archive& archive, const PerClient<Value>& values) {
    archive(values.clients(), values.values());
}

template <typename Archive, typename Value>
void load(Archive& archive, PerClient<Value>& values) {
    std::vector<std::uint32_t> clients;
    std::vector<Value> theirs;
    archive(clients, theirs);
    values = {std::move(clients), std::move(theirs)};
}

template <typename Archive>
void serialize(Archive& archive, PrecisionPlan& plan) {
    archive(plan.layers);
}

template <typename Archive>
void serialize(Archive& archive, BitOps& ops) {
    archive(ops.training, ops.optimizer, ops.training_fp32, ops.optimizer_fp32, ops.probe);
}

template <typename Archive>
void serialize(Archive& archive, RegressionErrors& errors) {
    archive(errors.rmse, errors.mae, errors.r2);
}

template <typename Archive>
void serialize(Archive& archive, Spread& spread) {
    archive(spread.mean, spread.weighted_mean, spread.p10, spread.p50, spread.p90, spread.min, spread.max);
}

template <typename Archive>
void serialize(Archive& archive, ClientScores& scores) {
    archive(scores.count, scores.samples, scores.accuracy, scores.personal_accuracy, scores.loss, scores.personal_loss);
}

template <typename Archive>
void serialize(Archive& archive, RunTotals& totals) {
    archive(totals.rounds, totals.samples, totals.seconds, totals.bytes_up, totals.bytes_down, totals.coordinates_up,
            totals.coordinates_down, totals.bit_ops, totals.final_accuracy, totals.final_loss, totals.best_accuracy);
}

namespace {

/// Of the tensors that are not trained, among all of the schema in order.
std::vector<std::uint32_t> untrained_ordinals(const Schema& schema) {
    std::vector<std::uint32_t> ordinals;
    std::uint32_t ordinal = 0;
    for (const LayerSpec& layer : schema.layers())
        for (const TensorSpec& tensor : layer.tensors) {
            if (!tensor.trained)
                ordinals.push_back(ordinal);
            ++ordinal;
        }
    return ordinals;
}

Schema with_untrained(const Schema& schema, std::span<const std::uint32_t> ordinals) {
    if (std::ranges::adjacent_find(ordinals, std::greater_equal()) != ordinals.end())
        throw FormatError("untrained tensors that do not ascend");
    std::vector<LayerSpec> layers(schema.layers().begin(), schema.layers().end());
    auto next = ordinals.begin();
    std::uint32_t ordinal = 0;
    for (LayerSpec& layer : layers)
        for (TensorSpec& tensor : layer.tensors) {
            tensor.trained = next == ordinals.end() || *next != ordinal;
            next += tensor.trained ? 0 : 1;
            ++ordinal;
        }
    if (next != ordinals.end())
        throw FormatError(fmt::format("an untrained tensor {} that the schema does not have", *next));
    return Schema(std::move(layers));
}

std::vector<double> inputs_of(const Schema& schema) {
    std::vector<double> inputs;
    for (const LayerSpec& layer : schema.layers())
        inputs.push_back(layer.inputs);
    return inputs;
}

Schema with_inputs(const Schema& schema, std::span<const double> inputs) {
    if (inputs.size() != schema.layer_count())
        throw FormatError(fmt::format("inputs of {} layers, expected {}", inputs.size(), schema.layer_count()));
    std::vector<LayerSpec> layers(schema.layers().begin(), schema.layers().end());
    for (std::size_t i = 0; i < layers.size(); ++i)
        layers[i].inputs = inputs[i];
    return Schema(std::move(layers));
}

/// What version 4 appends.
template <typename Archive, typename Body>
void serialize_version_4(Archive& archive, Body& c) {
    std::vector<double> inputs = inputs_of(c.schema);  // overwritten when read
    archive(inputs);
    if constexpr (Archive::is_loading::value)
        c.schema = with_inputs(c.schema, inputs);
    auto& totals = c.totals;
    archive(totals.bit_ops.bops, totals.bit_ops.bops_fp32, totals.train_seconds, totals.probe_seconds,
            totals.plan_changes);
    auto& good = c.good;
    archive(c.model_round, good.round, good.model, good.strategy, good.links, good.averaged, good.averaged_rounds);
}

/// What version 5 appends.
template <typename Archive, typename Body>
void serialize_version_5(Archive& archive, Body& c) {
    std::vector<std::uint32_t> counted;  // one a client: of no use without resuming, and replaced by version 6
    archive(c.history.reach, c.history.parts, counted, c.residual, c.totals.whole_models);
}

/// What version 6 appends.
template <typename Archive, typename Body>
void serialize_version_6(Archive& archive, Body& c) {
    archive(c.typical_norm, c.totals.simulated_seconds);
    for (auto& part : c.history.parts)
        archive(part.control);
    archive(c.totals.final_errors, c.totals.clients, c.device_bytes, c.counted);
}

/// `Body` is Checkpoint when read, const or CheckpointView when written. `version` is the file's. Version 1 says
/// nothing of untrained tensors: there were none. Nor do versions 1 and 2 say of an averaged model, nor 1 to 3 of a
/// model to go back to, nor 1 to 4 of changes that were broadcast, nor 1 to 5 of norms, simulated time and control
/// variates.
template <typename Archive, typename Body>
void serialize_body(Archive& archive, Body& c, std::uint32_t version) {
    require(version >= 1 && version <= kCheckpointVersion, "version {} of a checkpoint's body, expected 1 .. {}",
            version, kCheckpointVersion);
    archive(c.job, c.job_identity, c.round, c.schema, c.model, c.plan, c.evaluated_plan, c.controller, c.strategy,
            c.totals, c.abandoned_in_a_row, c.log_line);
    if (version >= 2) {
        std::vector<std::uint32_t> untrained = untrained_ordinals(c.schema);  // overwritten when read
        archive(untrained);
        if constexpr (Archive::is_loading::value)
            c.schema = with_untrained(c.schema, untrained);
    }
    if (version >= 3)
        archive(c.averaged, c.averaged_rounds, c.totals.swa_accuracy, c.totals.swa_loss);
    if (version >= 4)
        serialize_version_4(archive, c);
    if (version >= 5)
        serialize_version_5(archive, c);
    if (version >= 6)
        serialize_version_6(archive, c);
}

/// Hands bytes on: small ones together, and what is large as it is, since models are large enough for every copy to
/// count.
class Forwarding final : public std::streambuf {
public:
    explicit Forwarding(const ByteSink& to) : to_(to) {}

    void flush() {
        if (!small_.empty())
            to_(small_);
        small_.clear();
    }

private:
    static constexpr std::size_t kSmall = std::size_t{64} << 10;

    std::streamsize xsputn(const char* text, std::streamsize size) override {
        const std::string_view bytes(text, static_cast<std::size_t>(size));
        if (small_.size() + bytes.size() > kSmall)
            flush();
        if (bytes.size() > kSmall)
            to_(bytes);
        else
            small_ += bytes;
        return size;
    }
    int_type overflow(int_type character) override {
        const char byte = traits_type::to_char_type(character);
        xsputn(&byte, 1);
        return character;
    }

    const ByteSink& to_;
    std::string small_;
};

/// Reads part by part.
class Reading final : public std::streambuf {
public:
    Reading(const PartReader& read, std::uint64_t begin, std::uint64_t length)
        : read_(read), next_(begin), end_(begin + length) {}

private:
    int_type underflow() override {
        part_ = read_(next_, static_cast<std::size_t>(std::min<std::uint64_t>(kPartBytes, end_ - next_)));
        next_ += part_.size();
        setg(part_.data(), part_.data(), part_.data() + part_.size());
        return part_.empty() ? traits_type::eof() : traits_type::to_int_type(part_.front());
    }

    const PartReader& read_;
    std::uint64_t next_;
    std::uint64_t end_;
    std::string part_;
};

template <typename Holding>
void write_body(const CheckpointOf<Holding>& checkpoint, const ByteSink& sink) {
    Forwarding buffer(sink);
    std::ostream out(&buffer);
    cereal::PortableBinaryOutputArchive archive(out, cereal::PortableBinaryOutputArchive::Options::LittleEndian());
    serialize_body(archive, checkpoint, kCheckpointVersion);
    buffer.flush();
}

}  // namespace

void write_checkpoint_body(const Checkpoint& checkpoint, const ByteSink& sink) {
    write_body(checkpoint, sink);
}

void write_checkpoint_body(const CheckpointView& checkpoint, const ByteSink& sink) {
    write_body(checkpoint, sink);
}

Checkpoint parse_checkpoint_body(const PartReader& read, std::uint64_t begin, std::uint64_t length,
                                 std::uint32_t version) {
    Checkpoint checkpoint;
    Reading buffer(read, begin, length);
    std::uint64_t left = 0;
    try {
        BoundedInput archive(buffer, length);
        serialize_body(archive, checkpoint, version);
        left = archive.left();
        checkpoint.version = version;
        if (version < 4)
            checkpoint.model_round = checkpoint.round;
    } catch (const std::bad_alloc&) {  // the machine's fault, not the file's
        throw;
    } catch (const IoError&) {
        throw;
    } catch (const std::exception& e) {  // the archive's, cereal's, a schema's or a shape's
        throw FormatError(fmt::format("has a body that cannot be read: {}", e.what()));
    }
    if (left != 0)
        throw FormatError("has a body that goes on after its last field");
    return checkpoint;
}

}  // namespace dither
