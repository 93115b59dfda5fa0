// The one thread on which a hub's or a channel's sockets live.
#pragma once

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>

#include <chrono>
#include <csignal>
#include <exception>
#include <functional>
#include <thread>
#include <utility>

namespace dither::detail {

/// Declare it before what lives on it: its destructor, which joins, is to come last; stop() ends the work before.
class IoThread {
public:
    IoThread() : work_(context_.get_executor()) {}
    ~IoThread() { stop(); }
    IoThread(const IoThread&) = delete;
    IoThread& operator=(const IoThread&) = delete;

    boost::asio::io_context& context() { return context_; }

    /// No signal is delivered to the thread: handlers are the program's affair, and a broken pipe is an error code.
    /// `go_on`: called after an exception has left a handler, as where there is no memory, and again until it succeeds.
    void start(std::function<void()> go_on) {
        sigset_t all, before;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        const struct Restored {
            const sigset_t& mask;
            ~Restored() { pthread_sigmask(SIG_SETMASK, &mask, nullptr); }
        } restored{before};
        thread_ = std::thread([this, go_on = std::move(go_on)] { run(go_on); });
    }

    /// Idempotent. Not on the thread itself.
    void stop() {
        context_.stop();
        if (thread_.joinable())
            thread_.join();
    }

private:
    static constexpr std::chrono::milliseconds kPause{10};

    void run(const std::function<void()>& go_on) {
        for (bool well = true; !context_.stopped();) {
            try {
                if (!std::exchange(well, true))
                    go_on();
                context_.run();
            } catch (const std::exception&) {
                well = false;
                std::this_thread::sleep_for(kPause);
            }
        }
    }

    boost::asio::io_context context_{1};
    boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
    std::thread thread_;
};

}  // namespace dither::detail
