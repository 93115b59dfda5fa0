#include "transport/detail/event_queue.hpp"

#include <algorithm>
#include <utility>

namespace dither::detail {

void EventQueue::expect(PeerId peer) {
    const std::lock_guard lock(mutex_);
    if (!closed_)
        peers_.emplace(peer, Peer{.load = {}, .last = Items(1)});
}

void EventQueue::push(PeerJoined joined) {
    const std::lock_guard lock(mutex_);
    add({joined.peer, 0, std::move(joined)});
}

void EventQueue::push(Received received) {
    const std::lock_guard lock(mutex_);
    const std::size_t bytes = received.wire_bytes + sizeof(Item);
    add({received.peer, bytes, std::move(received)});
}

void EventQueue::push_last(PeerLost lost) noexcept {
    const std::lock_guard lock(mutex_);
    const auto peer = peers_.find(lost.peer);
    if (peer == peers_.end())
        return;
    Items& last = peer->second.last;
    last.front() = {lost.peer, 0, std::move(lost)};
    items_.splice(items_.end(), last);
    peers_.erase(peer);
    arrived_.notify_one();
}

void EventQueue::add(Item item) {
    const auto peer = peers_.find(item.peer);
    if (peer == peers_.end())
        return;
    const std::size_t bytes = item.bytes;
    items_.push_back(std::move(item));
    bytes_ += bytes;
    peer->second.load.bytes += bytes;
    ++peer->second.load.messages;
    arrived_.notify_one();
}

void EventQueue::subtract(const Item& item) {
    bytes_ -= item.bytes;
    const auto peer = peers_.find(item.peer);
    if (peer == peers_.end())
        return;
    peer->second.load.bytes -= item.bytes;
    --peer->second.load.messages;
}

std::optional<HubEvent> EventQueue::pop(Clock::time_point until) {
    std::unique_lock lock(mutex_);
    if (!arrived_.wait_until(lock, until, [&] { return !items_.empty(); }))
        return std::nullopt;
    Item item = std::move(items_.front());
    items_.pop_front();
    subtract(item);
    const bool tell = std::exchange(room_is_wanted_, false);
    lock.unlock();
    if (tell)
        on_room_();
    return std::move(item.event);
}

void EventQueue::forget(PeerId peer) {
    const std::lock_guard lock(mutex_);
    peers_.erase(peer);
    std::erase_if(items_, [&](const Item& item) {
        if (item.peer == peer)
            subtract(item);
        return item.peer == peer;
    });
}

void EventQueue::close() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    peers_.clear();
    items_.clear();
    bytes_ = 0;
}

std::size_t EventQueue::bytes() const {
    const std::lock_guard lock(mutex_);
    return bytes_;
}

EventQueue::Load EventQueue::load_of(PeerId peer) const {
    const std::lock_guard lock(mutex_);
    const auto found = peers_.find(peer);
    return found == peers_.end() ? Load{} : found->second.load;
}

void EventQueue::ask_for_room() {
    const std::lock_guard lock(mutex_);
    room_is_wanted_ = true;
}

}  // namespace dither::detail
