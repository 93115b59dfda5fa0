// SIGINT and SIGTERM as an orderly end: a thread of its own waits for them.
#pragma once

#include "transport/tcp.hpp"

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <stop_token>
#include <thread>

namespace dither {

/// One a process, made in main before any other thread. It sleeps until the first signal; then it stops the channel
/// that it holds, and ends the process if that has not ended after a second: what is being trained is not worth waiting
/// for, and all that a node keeps is on the disk. A second signal does not wait. Takes SIGUSR1 for itself. Thread-safe.
class Interruption {
public:
    Interruption();
    ~Interruption();
    Interruption(const Interruption&) = delete;
    Interruption& operator=(const Interruption&) = delete;

    /// Sleeps; false, at once, after a signal.
    bool wait(std::chrono::milliseconds length);
    int signal() const;  ///< that arrived; 0: none

    /// The same channel, stopped by a signal, even by one that arrived before. This must outlive it.
    std::unique_ptr<Channel> hold(std::unique_ptr<TcpChannel> channel);

private:
    class Held;

    void watch(const std::stop_token& over);
    void raise(int signal);
    void set_channel(TcpChannel* channel);

    mutable std::mutex mutex_;
    std::condition_variable raised_;
    int signal_ = 0;
    TcpChannel* channel_ = nullptr;
    std::jthread watch_;
};

}  // namespace dither
