#include "tests/simulation/nodes.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

namespace dither::simulation {

namespace {

using namespace std::chrono_literals;

/// From half a second on, doubled with each attempt up to a minute, jittered.
class Backoff {
public:
    Clock::duration next(Stream& stream) {
        const Clock::duration longest = std::min<Clock::duration>(500ms * (1U << attempts_), 60s);
        attempts_ = std::min(attempts_ + 1, 7U);
        return longest / 2 + longest / 2000 * stream.below(1000);
    }
    void reset() { attempts_ = 0; }

private:
    std::uint32_t attempts_ = 0;
};

class HonestNode final : public SimulatedNode {
public:
    HonestNode(const NodeSetup& setup, std::uint32_t life)
        : setup_(setup), life_(life), stream_(key_of(0)), session_(setup.session) {}

    Reaction connected() override { return {.frames = {encode_frame(session_.hello())}}; }

    Reaction heard(const Message& message) override {
        const std::optional<Message> answer = absence(message);
        const std::optional<Message> said = answer ? answer : session_.handle(message);
        if (const auto* welcome = std::get_if<Welcome>(&message)) {
            backoff_.reset();
            if (setup_.welcomed)
                setup_.welcomed(welcome->client);
        }
        if (session_.stopped())
            return {.hang_up = true};
        return said ? reaction_to(*said) : Reaction{};
    }

    std::optional<Clock::duration> away() override {
        if (session_.stopped() == kComplete)
            return std::nullopt;
        return backoff_.next(stream_);
    }

private:
    StreamKey key_of(std::uint32_t round) const {
        StreamKey key = setup_.key;
        key.round = round;
        key.step = life_;
        return key;
    }

    /// A failure, if this client does not take part.
    std::optional<Message> absence(const Message& message) {
        const auto* plan = std::get_if<RoundPlan>(&message);
        if (plan == nullptr)
            return std::nullopt;
        const bool prescribed = setup_.attends && !setup_.attends(plan->round, plan->client);
        if (!prescribed && !happens(setup_.company.failures))
            return std::nullopt;
        return Failed{.round = plan->round, .client = plan->client, .reason = "absent"};
    }

    bool happens(double chance) {
        return chance > 0 && setup_.goes_wrong() && static_cast<double>(stream_.uniform()) < chance;
    }

    Reaction reaction_to(Message said) {
        Reaction reaction;
        if (setup_.attends)
            return {.frames = {encode_frame(said)}};
        if (auto* update = std::get_if<Update>(&said)) {
            Stream stream(key_of(update->round));
            reaction.busy = 20ms + 1ms * stream.below(2000);
            if (happens(setup_.company.straggling))
                reaction.busy = 20s + 1ms * stream.below(70'000);
            put_times(*update, stream);
            if (happens(setup_.company.lies))
                reaction.frames.push_back(encode_frame(lie(*update)));
        }
        reaction.frames.push_back(encode_frame(said));
        return reaction;
    }

    /// Times of the virtual clock, other ones in each life: two trainings never take the same.
    static void put_times(Update& update, Stream& stream) {
        update.report.seconds = stream.uniform();
        update.report.probe_seconds = stream.uniform();
    }

    Update lie(Update update) {
        switch (stream_.below(9)) {
            case 0:
                update.base[5] ^= 1U;
                break;
            case 1:
                update.report.samples = std::uint64_t{1} << 40;
                break;
            case 2:
                update.report.steps += 1;
                break;
            case 3:
                update.payload.assign(7, std::byte{0xff});
                break;
            case 4:
                update.payload.clear();
                break;
            case 5:
                update.client ^= 1U;
                break;
            case 6:
                update.round += 1;
                break;
            case 7:
                update.round -= 1;
                break;
            default:
                update.report.layers.pop_back();
        }
        return update;
    }

    const NodeSetup& setup_;
    std::uint32_t life_;
    Stream stream_;
    Backoff backoff_;
    Session session_;
};

class Stranger final : public SimulatedNode {
public:
    Stranger(const StreamKey& key, std::uint32_t clients) : stream_(key), clients_(clients) {}

    Reaction connected() override {
        Reaction reaction{.busy = 1ms * stream_.below(500), .frames = {}, .hang_up = stream_.below(3) == 0};
        for (std::uint32_t left = 1 + stream_.below(3); left > 0; --left)
            reaction.frames.push_back(something());
        return reaction;
    }
    Reaction heard(const Message&) override { return {.frames = {something()}}; }
    std::optional<Clock::duration> away() override { return 10ms * stream_.below(200); }

private:
    Reaction::Frame something() {
        const Update update{.round = 1 + stream_.below(3), .client = stream_.below(clients_)};
        switch (stream_.below(9)) {
            case 0:
                return garbage(stream_.below(200));
            case 1:
                return huge();
            case 2:
                return encode_frame(Hello{.node = "stranger", .client = clients_ + stream_.below(5)});
            case 3:
                return encode_frame(Hello{.node = "stranger", .client = kAnyClient});
            case 4:
                return encode_frame(update);
            case 5:
                return encode_frame(RoundPlan{.round = 1, .base = 1});
            case 6:
                return encode_frame(Heartbeat{});
            case 7:
                return encode_frame(UpdateAck{.round = 1, .accepted = true});
            default:
                return cut_short(encode_frame(Failed{.round = 1, .reason = "none of your business"}));
        }
    }

    Reaction::Frame garbage(std::uint32_t size) {
        Reaction::Frame frame(size);
        std::ranges::generate(frame, [&] { return static_cast<std::byte>(stream_()); });
        return frame;
    }

    /// A header that promises more than a stranger may send.
    static Reaction::Frame huge() {
        Reaction::Frame frame = encode_frame(Welcome{.job = std::string(100'000, '#')});
        frame.resize(kFrameHeaderBytes);
        return frame;
    }

    Reaction::Frame cut_short(Reaction::Frame frame) {
        frame.resize(stream_.below(static_cast<std::uint32_t>(frame.size())));
        return frame;
    }

    Stream stream_;
    std::uint32_t clients_;
};

}  // namespace

std::unique_ptr<SimulatedNode> make_honest_node(const NodeSetup& setup, std::uint32_t life) {
    return std::make_unique<HonestNode>(setup, life);
}

std::unique_ptr<SimulatedNode> make_stranger(const StreamKey& key, std::uint32_t clients) {
    return std::make_unique<Stranger>(key, clients);
}

}  // namespace dither::simulation
