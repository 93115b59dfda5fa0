#include "node/daemon/membership.hpp"

#include <spdlog/spdlog.h>

#include <new>
#include <system_error>
#include <utility>

#include "core/error.hpp"

namespace dither {
namespace {

constexpr const char* kNoMemory = "no memory is left for the conversation";

}  // namespace

Membership::Membership(Session& session, Connect connect, Wait wait, std::uint32_t seed, spdlog::logger& log)
    : session_(session), connect_(std::move(connect)), wait_(std::move(wait)), backoff_(seed), log_(log) {}

Ending Membership::stay() {
    for (;;) {
        const Parting parting = attend();
        if (parting.kind == Parting::Kind::complete)
            return Ending::complete;
        const auto pause = pause_after(parting);
        report(parting, pause);
        if (!wait_(pause))
            return Ending::told_to_leave;
    }
}

Membership::Parting Membership::attend() {
    std::unique_ptr<Channel> channel;
    const bool first = std::exchange(first_, false);
    try {
        channel = connect_();
    } catch (const InputError& error) {  // certificates may be in the middle of a renewal
        if (first)
            throw;
        return {.reason = error.what()};
    } catch (const IoError& error) {
        return {.reason = error.what()};
    } catch (const std::system_error& error) {
        return {.reason = error.what()};
    } catch (const std::bad_alloc&) {
        return {.reason = kNoMemory};
    }
    return talk(*channel);
}

Membership::Parting Membership::talk(Channel& channel) {
    using enum Parting::Kind;
    Parting parting{.reason = "the aggregator is gone"};
    try {
        converse(channel, session_);
        if (session_.stopped())
            parting = {*session_.stopped() == kRunComplete ? complete : refused, *session_.stopped()};
    } catch (const IoError& error) {
        parting.reason = error.what();
    } catch (const std::system_error& error) {
        parting.reason = error.what();
    } catch (const std::bad_alloc&) {
        parting.reason = kNoMemory;
    } catch (const InputError& error) {
        parting = {refused, error.what()};
    } catch (const FormatError& error) {
        parting = {refused, error.what()};
    }
    if (session_.welcomed() && !session_.stopped())
        parting.kind = welcomed;
    return parting;
}

std::chrono::milliseconds Membership::pause_after(const Parting& parting) {
    if (parting.kind == Parting::Kind::refused)
        return backoff_.longest();
    if (parting.kind == Parting::Kind::welcomed)
        backoff_.reset();
    return backoff_.next();
}

void Membership::report(const Parting& parting, std::chrono::milliseconds pause) {
    if (parting.kind == Parting::Kind::welcomed)
        trouble_.clear();
    const bool known = trouble_ == parting.reason;
    trouble_ = parting.reason;
    const auto level = known                                     ? spdlog::level::debug
                       : parting.kind == Parting::Kind::welcomed ? spdlog::level::info
                                                                 : spdlog::level::warn;
    log_.log(level, "{}; the next attempt in {:.1f} s", parting.reason, std::chrono::duration<double>(pause).count());
}

}  // namespace dither
