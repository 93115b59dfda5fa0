// How a node stays in the federation: it connects, converses until the connection ends, waits, and connects again.
#pragma once

#include "node/daemon/backoff.hpp"
#include "node/session.hpp"
#include "transport/hub.hpp"

#include <chrono>
#include <functional>
#include <memory>
#include <string>

namespace spdlog {
class logger;
}

namespace dither {

/// How the last connection ended.
enum class Ending { complete, told_to_leave };

/// No clock, no socket: they come in as functions. Borrows what it is given. One thread.
class Membership {
public:
    using Connect = std::function<std::unique_ptr<Channel>()>;    ///< throws IoError, or InputError on unusable files
    using Wait = std::function<bool(std::chrono::milliseconds)>;  ///< false: the node is to leave

    Membership(Session& session, Connect connect, Wait wait, std::uint32_t seed, spdlog::logger& log);

    /// Until the aggregator says that the run is complete, or the node is to leave. Whatever else ends a connection is
    /// met by another one, after a while (backoff.hpp): at once after a welcome, later and later without one, and after
    /// the longest time where the aggregator or this node refuses the other, which only people mend: any stop but the
    /// last is such a refusal, even after a welcome, or two nodes of one id would drive each other out without end. A
    /// lack of memory is met like a lost connection. A trouble is logged when it begins, not each time. Throws
    /// InputError if the files of the very first attempt cannot be used.
    Ending stay();

private:
    struct Parting {
        enum class Kind { lost, refused, welcomed, complete };
        Kind kind = Kind::lost;
        std::string reason{};
    };

    Parting attend();
    Parting talk(Channel& channel);
    /// How long to wait after it.
    std::chrono::milliseconds pause_after(const Parting& parting);
    void report(const Parting& parting, std::chrono::milliseconds pause);

    Session& session_;
    Connect connect_;
    Wait wait_;
    Backoff backoff_;
    spdlog::logger& log_;
    bool first_ = true;
    std::string trouble_;  ///< that was logged last; empty: none since the last welcome
};

}  // namespace dither
