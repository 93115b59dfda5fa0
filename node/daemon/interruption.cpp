#include "node/daemon/interruption.hpp"

#include <pthread.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <ctime>
#include <utility>

namespace dither {
namespace {

constexpr std::chrono::seconds kGrace{1};
constexpr int kWake = SIGUSR1;  ///< ends the watch itself

sigset_t awaited() {
    sigset_t signals;
    sigemptyset(&signals);
    for (const int signal : {SIGINT, SIGTERM, kWake})
        sigaddset(&signals, signal);
    return signals;
}

/// The next signal, within `patience` if there is one; 0: none.
int next_signal(const timespec* patience) {
    const sigset_t signals = awaited();
    int signal = 0;
    do
        signal = patience == nullptr ? ::sigwaitinfo(&signals, nullptr) : ::sigtimedwait(&signals, nullptr, patience);
    while (signal < 0 && errno == EINTR);
    return signal > 0 ? signal : 0;
}

}  // namespace

class Interruption::Held final : public Channel {
public:
    Held(Interruption& interruption, std::unique_ptr<TcpChannel> channel)
        : interruption_(interruption), channel_(std::move(channel)) {
        interruption_.set_channel(channel_.get());
    }
    Held(const Held&) = delete;
    Held& operator=(const Held&) = delete;
    ~Held() override { interruption_.set_channel(nullptr); }

    std::optional<Message> receive() override { return channel_->receive(); }
    void send(const Message& message) override { channel_->send(message); }

private:
    Interruption& interruption_;
    std::unique_ptr<TcpChannel> channel_;
};

Interruption::Interruption() {
    const sigset_t signals = awaited();
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);  // threads inherit it
    std::signal(SIGPIPE, SIG_IGN);
    watch_ = std::jthread([this](const std::stop_token& over) { watch(over); });
}

Interruption::~Interruption() {
    watch_.request_stop();
    pthread_kill(watch_.native_handle(), kWake);
}

bool Interruption::wait(std::chrono::milliseconds length) {
    std::unique_lock lock(mutex_);
    return !raised_.wait_for(lock, length, [this] { return signal_ != 0; });
}

int Interruption::signal() const {
    const std::lock_guard lock(mutex_);
    return signal_;
}

std::unique_ptr<Channel> Interruption::hold(std::unique_ptr<TcpChannel> channel) {
    return std::make_unique<Held>(*this, std::move(channel));
}

void Interruption::watch(const std::stop_token& over) {
    const timespec grace{.tv_sec = kGrace.count(), .tv_nsec = 0};
    while (!over.stop_requested()) {
        const int first = signal();
        const int arrived = next_signal(first == 0 ? nullptr : &grace);
        if (arrived == kWake)
            continue;
        if (first != 0)  // a second one, or the grace is over
            std::_Exit(128 + first);
        if (arrived != 0)
            raise(arrived);
    }
}

void Interruption::raise(int signal) {
    const std::lock_guard lock(mutex_);
    signal_ = signal;
    if (channel_ != nullptr)
        channel_->stop();
    raised_.notify_all();
}

void Interruption::set_channel(TcpChannel* channel) {
    const std::lock_guard lock(mutex_);
    channel_ = channel;
    if (channel_ != nullptr && signal_ != 0)
        channel_->stop();
}

}  // namespace dither
