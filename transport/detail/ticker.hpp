// Calls a function from time to time on an I/O thread: one for all connections, instead of a timer for each.
#pragma once

#include "transport/tcp.hpp"

#include <boost/asio/steady_timer.hpp>

#include <algorithm>
#include <functional>
#include <utility>

namespace dither::detail {

/// Often enough that no limit is exceeded by more than an eighth.
inline std::chrono::milliseconds check_interval(const ConnectionLimits& limits) {
    using std::chrono::milliseconds;
    const milliseconds shortest =
        std::min({limits.handshake, limits.header, limits.heartbeat, limits.dead, limits.linger});
    return std::clamp(shortest / 8, milliseconds(1), milliseconds(1000));
}

/// On the I/O thread once started; destroyed when that has stopped.
class Ticker {
public:
    Ticker(boost::asio::io_context& context, std::chrono::milliseconds interval, std::function<void()> call)
        : timer_(context), interval_(interval), call_(std::move(call)) {}

    /// Does nothing where it runs. If a call throws, the next one is made all the same.
    void start() {
        if (runs_)
            return;
        timer_.expires_after(interval_);
        timer_.async_wait([this](const boost::system::error_code& error) {
            runs_ = false;
            if (error)
                return;
            start();
            call_();
        });
        runs_ = true;
    }

    /// To be called until it succeeds after an exception on the thread: the next call may not have been arranged.
    void go_on() {
        call_();
        start();
    }

private:
    boost::asio::steady_timer timer_;
    std::chrono::milliseconds interval_;
    std::function<void()> call_;
    bool runs_ = false;
};

}  // namespace dither::detail
