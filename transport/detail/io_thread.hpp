// The one thread on which a hub's or a channel's sockets live.
#pragma once

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>

#include <csignal>
#include <thread>

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
    void start() {
        sigset_t all, before;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        thread_ = std::thread([this] { context_.run(); });
        pthread_sigmask(SIG_SETMASK, &before, nullptr);
    }

    /// Idempotent. Not on the thread itself.
    void stop() {
        context_.stop();
        if (thread_.joinable())
            thread_.join();
    }

private:
    boost::asio::io_context context_{1};
    boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
    std::thread thread_;
};

}  // namespace dither::detail
