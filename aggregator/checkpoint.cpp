#include "aggregator/checkpoint.hpp"

#include "aggregator/detail/bytes.hpp"
#include "aggregator/detail/checkpoint_body.hpp"
#include "core/durable_file.hpp"
#include "core/error.hpp"
#include "core/vector_math.hpp"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>

namespace dither {

namespace {

constexpr std::string_view kMagic = "DITHMDL1";
constexpr std::size_t kHeaderBytes = kMagic.size() + 4 + 8;
constexpr std::size_t kDigestBytes = std::tuple_size_v<Sha256>;

struct StoredBody {
    std::uint32_t version = 0;
    std::uint64_t length = 0;
};

/// Of a whole and unaltered file; throws FormatError otherwise.
StoredBody checked_body(const PartReader& read) {
    const std::string begin = read(0, kHeaderBytes + kDigestBytes);
    if (!begin.starts_with(kMagic))
        throw FormatError("is not a Dither checkpoint: expected it to start with DITHMDL1");
    if (begin.size() < kHeaderBytes + kDigestBytes)
        throw FormatError(fmt::format("is truncated: {} bytes, not even a header and a digest", begin.size()));
    const auto version = load_little<std::uint32_t>(begin, kMagic.size());
    if (version < 1 || version > kCheckpointVersion)
        throw FormatError(fmt::format("has version {}, expected 1 .. {}", version, kCheckpointVersion));
    const auto length = load_little<std::uint64_t>(begin, kMagic.size() + 4);
    const std::uint64_t end = kHeaderBytes + std::min(length, std::numeric_limits<std::uint64_t>::max() / 2);
    Sha256Stream digest;
    std::uint64_t size = 0;
    for (std::string part; !(part = read(size, kPartBytes)).empty(); size += part.size())
        digest.add(std::string_view(part).substr(0, end - std::min(end, size)));
    if (const std::uint64_t present = size - kHeaderBytes - kDigestBytes; length != present)
        throw FormatError(fmt::format("is truncated or extended: a body of {} bytes, expected {}", present, length));
    if (as_text(digest.finish()) != read(end, kDigestBytes))
        throw FormatError("is altered: its SHA-256 does not match");
    return {version, length};
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

/// What clients hold, and what brings them to the model of the next round.
template <typename Holding>
void check_broadcast(const CheckpointOf<Holding>& checkpoint) {
    const History& history = checkpoint.history;
    const std::uint32_t next = checkpoint.round + 1;
    for (std::uint32_t i = 0; i < history.parts.size(); ++i)
        if (const std::uint32_t round = history.parts[i].round; round != history.reach + 1 + i || round > next)
            throw FormatError(
                fmt::format("holds a change of round {}, expected {}, at most {}", round, history.reach + 1 + i, next));
    const std::vector<std::uint32_t>& counted = checkpoint.counted.values();
    if (const auto last = std::ranges::max_element(counted); last != counted.end() && *last > checkpoint.round)
        throw FormatError(
            fmt::format("holds an update from the model of round {}, expected at most {}", *last, checkpoint.round));
    if (!checkpoint.residual.empty() && checkpoint.residual.size() != checkpoint.schema.parameters())
        throw FormatError(fmt::format("holds a residual of {} parameters, expected {} by its schema",
                                      checkpoint.residual.size(), checkpoint.schema.parameters()));
    if (!all_finite(checkpoint.residual))
        throw FormatError("holds a residual that is not finite");
    for (const ModelPart& part : checkpoint.history.parts)
        if (part.control && !(part.control->keep >= 0 && part.control->keep <= 1 && std::isfinite(part.control->gain)))
            throw FormatError(fmt::format("holds a change of round {} whose control step is none", part.round));
}

void check_numbers(double simulated_seconds, double typical_norm) {
    constexpr double kMostSeconds = 1e12;
    if (!(simulated_seconds >= 0 && simulated_seconds <= kMostSeconds))
        throw FormatError(fmt::format("holds {} simulated seconds, expected 0 .. {}", simulated_seconds, kMostSeconds));
    if (!(typical_norm >= 0) || std::isinf(typical_norm))
        throw FormatError(fmt::format("holds a typical norm of {}, expected a finite one of at least 0", typical_norm));
}

template <typename Holding>
void check(const CheckpointOf<Holding>& checkpoint) {
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
    check_broadcast(checkpoint);
    check_numbers(checkpoint.totals.simulated_seconds, checkpoint.typical_norm);
    if (!all_finite(checkpoint.model) || !all_finite(checkpoint.good.model))
        throw FormatError("holds a parameter that is not finite");
}

template <typename Holding>
void write(const CheckpointOf<Holding>& checkpoint, const ByteSink& sink) {
    check(checkpoint);
    std::uint64_t length = 0;
    write_checkpoint_body(checkpoint, [&](std::string_view bytes) { length += bytes.size(); });
    Sha256Stream digest;
    const ByteSink sealed = [&](std::string_view bytes) {
        digest.add(bytes);
        sink(bytes);
    };
    std::string header(kMagic);
    append_little(header, kCheckpointVersion);
    append_little(header, length);
    sealed(header);
    write_checkpoint_body(checkpoint, sealed);
    sink(as_text(digest.finish()));
}

}  // namespace

void write_checkpoint(const Checkpoint& checkpoint, const ByteSink& sink) {
    write(checkpoint, sink);
}

void write_checkpoint(const CheckpointView& checkpoint, const ByteSink& sink) {
    write(checkpoint, sink);
}

void save_checkpoint(const std::filesystem::path& file, const Checkpoint& checkpoint) {
    write_durably(file, [&](const ByteSink& sink) { write_checkpoint(checkpoint, sink); });
}

Checkpoint load_checkpoint(const std::filesystem::path& file) {
    std::ifstream in(file, std::ios::binary);
    if (!in)
        throw InputError(fmt::format("{}: cannot open the checkpoint: {}", file.string(), std::strerror(errno)));
    const auto read = [&](std::uint64_t offset, std::size_t size) {
        std::string part(size, '\0');
        in.clear();
        in.seekg(static_cast<std::streamoff>(offset));
        in.read(part.data(), static_cast<std::streamsize>(size));
        part.resize(static_cast<std::size_t>(in.gcount()));
        return part;
    };
    return read_checkpoint(read, file.string());
}

Checkpoint read_checkpoint(const PartReader& read, const std::string& name) {
    try {
        const StoredBody body = checked_body(read);
        Checkpoint checkpoint = parse_checkpoint_body(read, kHeaderBytes, body.length, body.version);
        check(checkpoint);
        return checkpoint;
    } catch (const FormatError& e) {
        throw InputError(fmt::format("{} {}", name, e.what()));
    }
}

Checkpoint read_checkpoint(std::string_view bytes, const std::string& name) {
    const auto read = [bytes](std::uint64_t offset, std::size_t size) {
        return std::string(bytes.substr(std::min<std::uint64_t>(offset, bytes.size()), size));
    };
    return read_checkpoint(read, name);
}

}  // namespace dither
