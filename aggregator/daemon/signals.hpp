// Signals as a daemon should meet them: in a thread that waits for them, where everything may be called.
#pragma once

#include <atomic>
#include <functional>
#include <thread>

namespace dither {

/// SIGINT, SIGTERM and SIGHUP are left to SignalWatch, and SIGPIPE to nobody. Call it first in main: threads inherit
/// it.
void block_signals();

/// Waits for signals from its construction to its destruction; one at a time, after block_signals().
class SignalWatch {
public:
    /// `reload` is called for each SIGHUP, in the watch's thread.
    explicit SignalWatch(std::function<void()> reload);
    ~SignalWatch();
    SignalWatch(const SignalWatch&) = delete;
    SignalWatch& operator=(const SignalWatch&) = delete;

    /// True from the first SIGINT or SIGTERM on. The second one ends the process at once: what was promised is on the
    /// disk already.
    const std::atomic<bool>& stopped() const { return stopped_; }
    int signal() const { return signal_; }  ///< that stopped it

private:
    void watch();

    std::function<void()> reload_;
    std::atomic<bool> stopped_{false};
    std::atomic<int> signal_{0};
    std::atomic<bool> ending_{false};
    std::thread thread_;
};

}  // namespace dither
