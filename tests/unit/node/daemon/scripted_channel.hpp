// A channel that says what a test wrote down, and keeps what is said to it.
#pragma once

#include <deque>
#include <stdexcept>
#include <utility>
#include <vector>

#include "transport/hub.hpp"

namespace dither::test {

class ScriptedChannel final : public Channel {
public:
    /// `heard` is what the node hears, one after the other, before `end`: what receive() throws, or nothing for a
    /// connection that closes. What is sent is appended to `said`.
    ScriptedChannel(std::deque<Message> heard, std::vector<Message>& said, std::exception_ptr end = nullptr)
        : heard_(std::move(heard)), said_(said), end_(std::move(end)) {}

    std::optional<Message> receive() override {
        if (heard_.empty() && end_)
            std::rethrow_exception(end_);
        if (heard_.empty())
            return std::nullopt;
        Message message = std::move(heard_.front());
        heard_.pop_front();
        return message;
    }
    void send(const Message& message) override { said_.push_back(message); }

private:
    std::deque<Message> heard_;
    std::vector<Message>& said_;
    std::exception_ptr end_;
};

}  // namespace dither::test
