#include "aggregator/detail/receipts.hpp"

#include "transport/frame.hpp"

namespace dither {

namespace {

// So many acknowledgements, or bytes, wait at most for a common sync while more events do.
constexpr std::size_t kMostWaiting = 64;
constexpr std::size_t kMostUnsyncedBytes = std::size_t{16} << 20;

}  // namespace

void Receipts::record(const Message& message, const PrecisionPlan& plan, std::uint64_t wire_bytes) {
    const auto& update = std::get<Update>(message);
    const std::vector<std::byte> frame = encode_frame(message);
    if (journal_ != nullptr) {
        journal_->append(frame, plan, wire_bytes);
        unsynced_bytes_ += frame.size();
    }
    receipts_[update.client] = {update.round, sha256(frame)};
}

void Receipts::remember(const Message& message) {
    const auto& update = std::get<Update>(message);
    receipts_[update.client] = {update.round, sha256(encode_frame(message))};
}

std::optional<bool> Receipts::is_the_same(const Message& message) const {
    const auto& update = std::get<Update>(message);
    const auto receipt = receipts_.find(update.client);
    if (receipt == receipts_.end() || receipt->second.round != update.round)
        return std::nullopt;
    return receipt->second.frame == sha256(encode_frame(message));
}

std::uint64_t Receipts::accept(PeerId peer, std::uint32_t round, std::uint32_t client) {
    waiting_.push_back({peer, {round, client, true, {}}});
    return journal_ == nullptr ? acknowledge() : 0;
}

bool Receipts::is_due() const {
    return waiting_.size() >= kMostWaiting || unsynced_bytes_ >= kMostUnsyncedBytes;
}

std::uint64_t Receipts::acknowledge() {
    if (journal_ != nullptr)
        journal_->sync();
    unsynced_bytes_ = 0;
    std::uint64_t bytes = 0;
    for (const auto& [peer, ack] : waiting_)
        bytes += hub_.send(peer, ack);
    waiting_.clear();
    return bytes;
}

}  // namespace dither
