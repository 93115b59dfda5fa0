// What is known of some clients, among any number that are registered.
#pragma once

#include "core/error.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <utility>
#include <vector>

namespace dither {

/// A value for each client that was ever given one, in ascending order of clients: memory, and what a checkpoint takes,
/// grow with those, not with the federation.
template <typename Value>
class PerClient {
public:
    using Entry = std::pair<std::uint32_t, Value>;

    PerClient() = default;
    /// values[i] is that of clients[i], which ascend.
    PerClient(std::vector<std::uint32_t> clients, std::vector<Value> values)
        : clients_(std::move(clients)), values_(std::move(values)) {
        require(clients_.size() == values_.size(), "{} values of {} clients", values_.size(), clients_.size());
        require(std::ranges::adjacent_find(clients_, std::greater_equal()) == clients_.end(),
                "clients that do not ascend");
    }

    /// Value{} of a client that was never given one.
    Value operator[](std::uint32_t client) const {
        const auto place = std::ranges::lower_bound(clients_, client);
        return place == clients_.end() || *place != client
                   ? Value{}
                   : values_[static_cast<std::size_t>(place - clients_.begin())];
    }

    /// Each client at most once, in any order: one pass over everything, so rather many at once.
    void put(std::vector<Entry> entries) {
        std::ranges::sort(entries, {}, &Entry::first);
        PerClient merged;
        merged.clients_.reserve(clients_.size() + entries.size());
        merged.values_.reserve(clients_.size() + entries.size());
        auto next = entries.begin();
        const auto take_below = [&](std::uint64_t end) {
            for (; next != entries.end() && next->first < end; ++next)
                merged.append(next->first, next->second);
        };
        for (std::size_t i = 0; i < clients_.size(); ++i) {
            take_below(clients_[i]);
            if (next == entries.end() || next->first != clients_[i])
                merged.append(clients_[i], values_[i]);
        }
        take_below(std::numeric_limits<std::uint64_t>::max());
        *this = std::move(merged);
    }

    const std::vector<std::uint32_t>& clients() const { return clients_; }
    const std::vector<Value>& values() const { return values_; }
    bool operator==(const PerClient&) const = default;

private:
    void append(std::uint32_t client, const Value& value) {
        clients_.push_back(client);
        values_.push_back(value);
    }

    std::vector<std::uint32_t> clients_;
    std::vector<Value> values_;
};

}  // namespace dither
