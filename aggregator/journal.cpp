#include "aggregator/journal.hpp"

#include "aggregator/detail/bytes.hpp"
#include "core/error.hpp"
#include "transport/frame.hpp"

#include <initializer_list>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace dither {

namespace {

constexpr std::string_view kMagic = "DITHJNL1";
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kDigestBytes = std::tuple_size_v<Sha256>;
constexpr std::size_t kRoundAt = kMagic.size() + sizeof(kVersion);
constexpr std::size_t kHeaderBytes = kRoundAt + sizeof(std::uint32_t) + 2 * kDigestBytes;
constexpr std::size_t kLengthBytes = sizeof(std::uint64_t);
constexpr std::size_t kPlanAt = sizeof(std::uint64_t);  // behind wire_bytes

std::string header_of(std::uint32_t round, const Sha256& broadcast) {
    std::string header(kMagic);
    append_little(header, kVersion);
    append_little(header, round);
    header += as_text(broadcast);
    return header += as_text(sha256(std::string_view(header)));
}

/// A whole header, though of another version: these bytes are the same in all.
bool is_foreign(std::string_view header) {
    const std::size_t signed_bytes = kHeaderBytes - kDigestBytes;
    return header.size() == kHeaderBytes && header.starts_with(kMagic) &&
           load_little<std::uint32_t>(header, kMagic.size()) != kVersion &&
           as_text(sha256(header.substr(0, signed_bytes))) == header.substr(signed_bytes);
}

/// An entry but for the frame, which ends it: its length, wire_bytes, the plan.
std::string head_of(std::size_t frame_bytes, const PrecisionPlan& plan, std::uint64_t wire_bytes) {
    const std::size_t widths = plan.layers.size() * kPhases.size();
    std::string head;
    append_little(head, std::uint64_t{kPlanAt + sizeof(std::uint32_t) + widths + frame_bytes});
    append_little(head, wire_bytes);
    append_little(head, static_cast<std::uint32_t>(plan.layers.size()));
    for (const LayerBits& layer : plan.layers)
        for (const Phase phase : kPhases)
            append_little(head, static_cast<std::uint8_t>(layer[phase]));
    return head;
}

int width_of(char byte) {
    const int width = static_cast<unsigned char>(byte);
    if ((width < 2 || width > 16) && width != kFullBits)
        throw FormatError(fmt::format("a plan of {} bits, expected 2 .. 16 or 32", width));
    return width;
}

/// Takes the plan from the front of `in`.
PrecisionPlan take_plan(std::string_view& in) {
    if (in.size() < sizeof(std::uint32_t))
        throw FormatError("no plan");
    const auto layers = load_little<std::uint32_t>(in, 0);
    in.remove_prefix(sizeof(layers));
    if (layers > in.size() / kPhases.size())
        throw FormatError(fmt::format("a plan of {} layers in {} bytes", layers, in.size()));
    PrecisionPlan plan{.layers = std::vector<LayerBits>(layers)};
    for (LayerBits& layer : plan.layers)
        for (const Phase phase : kPhases) {
            layer[phase] = width_of(in.front());
            in.remove_prefix(1);
        }
    return plan;
}

/// Of what an entry says between its length and its digest.
Journal::Entry parse(std::string_view content) {
    if (content.size() < kPlanAt)
        throw FormatError("no wire_bytes");
    Journal::Entry entry;
    entry.wire_bytes = load_little<std::uint64_t>(content, 0);
    content.remove_prefix(kPlanAt);
    entry.plan = take_plan(content);
    const auto bytes = std::as_bytes(std::span(content));
    const FrameLimits limits{.body_bytes = bytes.size(),
                             .layers = static_cast<std::uint32_t>(entry.plan.layers.size())};
    entry.update = decode_frame({bytes.begin(), bytes.end()}, limits);
    if (!std::holds_alternative<Update>(entry.update))
        throw FormatError(fmt::format("{}, expected Update", name_of(entry.update)));
    return entry;
}

}  // namespace

struct Journal::State {
    Storage& storage;
    std::unique_ptr<AppendFile> file{};
    std::string header{};  ///< not in the file yet
    bool clean = true;     ///< all is durable

    void append(std::initializer_list<std::string_view> pieces);
    bool holds(std::string_view header) const;
    /// The whole entry at `at`, with its length and without its digest; nothing if it is torn.
    std::optional<std::string> entry_at(std::uint64_t at) const;
    void replay(const std::function<void(const Entry&)>& replay);
};

/// All of them or none.
void Journal::State::append(std::initializer_list<std::string_view> pieces) {
    require(file != nullptr, "a journal is appended to before begin()");
    const std::uint64_t before = file->size();
    clean = false;
    try {
        for (const std::string_view piece : pieces)
            file->append(piece);
    } catch (const DiskFull&) {
        if (file->size() != before)
            file->truncate(before);
        throw;
    }
}

bool Journal::State::holds(std::string_view header) const {
    const std::string found = storage.read_part(kFile, 0, kHeaderBytes);
    if (is_foreign(found))
        throw InputError(fmt::format("{} has version {}, expected {}", kFile,
                                     load_little<std::uint32_t>(found, kMagic.size()), kVersion));
    return found == header;
}

std::optional<std::string> Journal::State::entry_at(std::uint64_t at) const {
    const std::uint64_t left = file->size() - at;
    if (left < kLengthBytes + kDigestBytes)
        return std::nullopt;
    const std::uint64_t most = left - kLengthBytes - kDigestBytes;
    const std::string head = storage.read_part(kFile, at, kLengthBytes);
    if (head.size() != kLengthBytes || load_little<std::uint64_t>(head, 0) > most)
        return std::nullopt;
    const auto length = static_cast<std::size_t>(load_little<std::uint64_t>(head, 0));
    std::string entry = storage.read_part(kFile, at, kLengthBytes + length + kDigestBytes);
    if (entry.size() != kLengthBytes + length + kDigestBytes)
        return std::nullopt;
    const std::string digest = entry.substr(kLengthBytes + length);
    entry.resize(kLengthBytes + length);
    return as_text(sha256(std::string_view(entry))) == digest ? std::optional(std::move(entry)) : std::nullopt;
}

void Journal::State::replay(const std::function<void(const Entry&)>& replay) {
    std::uint64_t at = kHeaderBytes;
    for (std::size_t number = 1; auto entry = entry_at(at); ++number) {
        at += entry->size() + kDigestBytes;
        try {
            replay(parse(std::string_view(*entry).substr(kLengthBytes)));
        } catch (const FormatError& error) {
            throw InputError(fmt::format("{}: entry {} cannot be one: {}", kFile, number, error.what()));
        }
    }
    if (at != file->size())
        file->truncate(at);
}

Journal::Journal(Storage& storage) : state_(std::make_unique<State>(State{.storage = storage})) {}

Journal::~Journal() = default;

void Journal::begin(std::uint32_t round, const Sha256& broadcast, const std::function<void(const Entry&)>& replay) {
    const std::string header = header_of(round, broadcast);
    state_->header.clear();
    if (!state_->file)
        state_->file = state_->storage.open_append(kFile);
    if (state_->holds(header)) {
        state_->clean = false;  // what a killed process has left need not be on the disk yet
        return state_->replay(replay);
    }
    if (state_->file->size() > 0)
        state_->file->truncate(0);
    state_->header = header;
}

void Journal::append(std::span<const std::byte> frame, const PrecisionPlan& plan, std::uint64_t wire_bytes) {
    const std::string head = head_of(frame.size(), plan, wire_bytes);
    Sha256Stream digest;
    digest.add(head);
    digest.add(frame);
    state_->append({state_->header, head, as_text(frame), as_text(digest.finish())});
    state_->header.clear();
}

void Journal::sync() {
    if (state_->clean)
        return;
    state_->file->sync();
    state_->clean = true;
}

}  // namespace dither
