#include "aggregator/checkpoint.hpp"

#include "aggregator/run_folder.hpp"
#include "core/error.hpp"
#include "core/vector_math.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <functional>
#include <sstream>

#include <cereal/archives/portable_binary.hpp>
#include <cereal/types/array.hpp>
#include <cereal/types/optional.hpp>
#include <cereal/types/string.hpp>
#include <cereal/types/vector.hpp>

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
    for (int axis = 0; axis < rank; ++axis)
        archive(extents[static_cast<std::size_t>(axis)]);
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

template <typename Archive>
void serialize(Archive& archive, PrecisionPlan& plan) {
    archive(plan.layers);
}

template <typename Archive>
void serialize(Archive& archive, BitOps& ops) {
    archive(ops.training, ops.optimizer, ops.training_fp32, ops.optimizer_fp32, ops.probe);
}

template <typename Archive>
void serialize(Archive& archive, RunTotals& totals) {
    archive(totals.rounds, totals.samples, totals.seconds, totals.bytes_up, totals.bytes_down, totals.coordinates_up,
            totals.coordinates_down, totals.bit_ops, totals.final_accuracy, totals.final_loss, totals.best_accuracy);
}

namespace {

constexpr std::string_view kMagic = "DITHMDL1";
constexpr std::size_t kHeaderBytes = kMagic.size() + 4 + 8;
constexpr std::size_t kDigestBytes = std::tuple_size_v<Sha256>;

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

/// `Body` is Checkpoint, const when written. `version` is the file's. Version 1 says nothing of untrained tensors:
/// there were none. Nor do versions 1 and 2 say of an averaged model, nor 1 to 3 of a model to go back to.
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
}

template <typename Integer>
void append_little_endian(std::string& out, Integer value) {
    for (std::size_t byte = 0; byte < sizeof(Integer); ++byte)
        out.push_back(static_cast<char>(value >> (8 * byte)));
}

template <typename Integer>
Integer read_little_endian(std::string_view in) {
    Integer value = 0;
    for (std::size_t byte = 0; byte < sizeof(Integer); ++byte)
        value |= static_cast<Integer>(static_cast<unsigned char>(in[byte])) << (8 * byte);
    return value;
}

std::string_view as_text(const Sha256& digest) {
    return {reinterpret_cast<const char*>(digest.data()), kDigestBytes};
}

std::string read_file(const std::filesystem::path& file) {
    std::ifstream in(file, std::ios::binary);
    if (!in)
        throw InputError(fmt::format("{}: cannot open the checkpoint: {}", file.string(), std::strerror(errno)));
    std::ostringstream text;
    text << in.rdbuf();
    return std::move(text).str();
}

struct StoredBody {
    std::uint32_t version = 0;
    std::string_view bytes;
};

/// Of a whole and unaltered file; throws FormatError otherwise.
StoredBody checked_body(std::string_view file) {
    if (!file.starts_with(kMagic))
        throw FormatError("is not a Dither checkpoint: expected it to start with DITHMDL1");
    if (file.size() < kHeaderBytes + kDigestBytes)
        throw FormatError(fmt::format("is truncated: {} bytes, not even a header and a digest", file.size()));
    const auto version = read_little_endian<std::uint32_t>(file.substr(kMagic.size()));
    if (version < 1 || version > kCheckpointVersion)
        throw FormatError(fmt::format("has version {}, expected 1 .. {}", version, kCheckpointVersion));
    const auto length = read_little_endian<std::uint64_t>(file.substr(kMagic.size() + 4));
    const std::size_t present = file.size() - kHeaderBytes - kDigestBytes;
    if (length != present)
        throw FormatError(fmt::format("is truncated or extended: a body of {} bytes, expected {}", present, length));
    if (as_text(sha256(file.substr(0, kHeaderBytes + present))) != file.substr(kHeaderBytes + present))
        throw FormatError("is altered: its SHA-256 does not match");
    return {version, file.substr(kHeaderBytes, present)};
}

Checkpoint parse_body(const StoredBody& body) {
    Checkpoint checkpoint;
    std::istringstream in{std::string(body.bytes)};
    try {
        cereal::PortableBinaryInputArchive archive(in, cereal::PortableBinaryInputArchive::Options::LittleEndian());
        serialize_body(archive, checkpoint, body.version);
        checkpoint.version = body.version;
        if (body.version < 4)
            checkpoint.model_round = checkpoint.round;
    } catch (const std::exception& e) {  // cereal's, a schema's or a shape's, or memory that a count asks for in vain
        throw FormatError(fmt::format("has a body that cannot be read: {}", e.what()));
    }
    if (in.peek() != std::istringstream::traits_type::eof())
        throw FormatError("has a body that goes on after its last field");
    return checkpoint;
}

void check(const PrecisionPlan& plan, const Schema& schema) {
    if (plan.layers.size() != schema.layer_count())
        throw FormatError(fmt::format("holds a plan of {} layers, expected {} by its schema", plan.layers.size(),
                                      schema.layer_count()));
    for (const LayerBits& layer : plan.layers)
        for (const Phase phase : kPhases)
            if (const int bits = layer[phase]; (bits < 2 || bits > 16) && bits != kFullBits)
                throw FormatError(fmt::format("holds a plan of {} bits, expected 2 .. 16 or 32", bits));
}

/// `last`: the round up to which models can be in it.
void check_average(std::span<const float> averaged, std::uint32_t rounds, std::uint32_t last, const Schema& schema) {
    if (!averaged.empty() && averaged.size() != schema.parameters())
        throw FormatError(fmt::format("holds {} averaged parameters, expected {} by its schema", averaged.size(),
                                      schema.parameters()));
    if (averaged.empty() != (rounds == 0))
        throw FormatError(fmt::format("holds {} averaged parameters of {} rounds", averaged.size(), rounds));
    if (rounds > last)
        throw FormatError(fmt::format("holds an average of {} rounds, expected at most {}", rounds, last));
    if (!all_finite(averaged))
        throw FormatError("holds an averaged parameter that is not finite");
}

void check(const Checkpoint& checkpoint) {
    const Schema& schema = checkpoint.schema;
    if (checkpoint.model.size() != schema.parameters())
        throw FormatError(fmt::format("holds {} parameters, expected {} by its schema", checkpoint.model.size(),
                                      schema.parameters()));
    check_average(checkpoint.averaged, checkpoint.averaged_rounds, checkpoint.round, schema);
    check_average(checkpoint.good.averaged, checkpoint.good.averaged_rounds, checkpoint.good.round, schema);
    if (!checkpoint.good.model.empty() && checkpoint.good.model.size() != schema.parameters())
        throw FormatError(fmt::format("holds {} parameters to go back to, expected {} by its schema",
                                      checkpoint.good.model.size(), schema.parameters()));
    if (checkpoint.model_round > checkpoint.round || checkpoint.good.round > checkpoint.model_round)
        throw FormatError(fmt::format("holds models of rounds {} and {}, expected at most {}", checkpoint.good.round,
                                      checkpoint.model_round, checkpoint.round));
    check(checkpoint.plan, schema);
    check(checkpoint.evaluated_plan, schema);
    if (!all_finite(checkpoint.model) || !all_finite(checkpoint.good.model))
        throw FormatError("holds a parameter that is not finite");
}

}  // namespace

void save_checkpoint(const std::filesystem::path& file, const Checkpoint& checkpoint) {
    check(checkpoint);
    std::ostringstream out;
    {
        cereal::PortableBinaryOutputArchive archive(out, cereal::PortableBinaryOutputArchive::Options::LittleEndian());
        serialize_body(archive, checkpoint, kCheckpointVersion);
    }
    const std::string body = std::move(out).str();
    std::string bytes(kMagic);
    append_little_endian(bytes, kCheckpointVersion);
    append_little_endian(bytes, std::uint64_t{body.size()});
    bytes += body;
    bytes += as_text(sha256(std::string_view(bytes)));
    write_durably(file, bytes);
}

Checkpoint load_checkpoint(const std::filesystem::path& file) {
    const std::string bytes = read_file(file);
    try {
        Checkpoint checkpoint = parse_body(checked_body(bytes));
        check(checkpoint);
        return checkpoint;
    } catch (const FormatError& e) {
        throw InputError(fmt::format("{} {}", file.string(), e.what()));
    }
}

}  // namespace dither
