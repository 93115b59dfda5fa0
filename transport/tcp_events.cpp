#include "transport/detail/event_queue.hpp"

#include <algorithm>
#include <utility>

namespace dither::detail {

void EventQueue::expect(PeerId peer) {
    const std::lock_guard lock(mutex_);
    if (!closed_)
        bytes_of_.emplace(peer, 0);
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

void EventQueue::push_last(PeerLost lost) {
    const std::lock_guard lock(mutex_);
    const PeerId peer = lost.peer;
    add({peer, 0, std::move(lost)});
    bytes_of_.erase(peer);
}

void EventQueue::add(Item item) {
    const auto peer = bytes_of_.find(item.peer);
    if (peer == bytes_of_.end())
        return;
    peer->second += item.bytes;
    bytes_ += item.bytes;
    items_.push_back(std::move(item));
    arrived_.notify_one();
}

void EventQueue::subtract(const Item& item) {
    bytes_ -= item.bytes;
    if (const auto peer = bytes_of_.find(item.peer); peer != bytes_of_.end())
        peer->second -= item.bytes;
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
    bytes_of_.erase(peer);
    std::erase_if(items_, [&](const Item& item) {
        if (item.peer == peer)
            subtract(item);
        return item.peer == peer;
    });
}

void EventQueue::close() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    bytes_of_.clear();
    items_.clear();
    bytes_ = 0;
}

std::size_t EventQueue::bytes() const {
    const std::lock_guard lock(mutex_);
    return bytes_;
}

std::size_t EventQueue::bytes_of(PeerId peer) const {
    const std::lock_guard lock(mutex_);
    const auto found = bytes_of_.find(peer);
    return found == bytes_of_.end() ? 0 : found->second;
}

void EventQueue::ask_for_room() {
    const std::lock_guard lock(mutex_);
    room_is_wanted_ = true;
}

}  // namespace dither::detail
