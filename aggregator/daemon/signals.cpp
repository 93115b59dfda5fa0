#include "aggregator/daemon/signals.hpp"

#include <csignal>
#include <cstdlib>
#include <utility>

#include <pthread.h>

namespace dither {

namespace {

constexpr int kWake = SIGUSR1;  // ends the watch itself

sigset_t watched() {
    sigset_t set;
    sigemptyset(&set);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP, kWake})
        sigaddset(&set, signal);
    return set;
}

}  // namespace

void block_signals() {
    const sigset_t set = watched();
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    std::signal(SIGPIPE, SIG_IGN);
}

SignalWatch::SignalWatch(std::function<void()> reload) : reload_(std::move(reload)), thread_([this] { watch(); }) {}

SignalWatch::~SignalWatch() {
    ending_ = true;
    pthread_kill(thread_.native_handle(), kWake);
    thread_.join();
}

void SignalWatch::watch() {
    const sigset_t set = watched();
    while (!ending_) {
        int signal = 0;
        sigwait(&set, &signal);
        if (signal == SIGHUP)
            reload_();
        if (signal != SIGINT && signal != SIGTERM)
            continue;
        signal_ = signal;
        if (stopped_.exchange(true))
            std::_Exit(128 + signal);
    }
}

}  // namespace dither
