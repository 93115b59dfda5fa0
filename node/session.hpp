// A node's conversation with the aggregator: hello, welcome, then one task after the other until it is told to stop.
#pragma once

#include "core/data/dataset.hpp"
#include "core/precision/device.hpp"
#include "transport/hub.hpp"
#include "transport/makers.hpp"

#include <functional>
#include <memory>
#include <optional>
#include <string>

namespace dither {

struct SessionSetup {
    std::string node;                   ///< [a-z0-9_-]{1,64}
    std::uint32_t client = kAnyClient;  ///< the client it speaks for, or kAssignedClient; kAnyClient hosts every client
                                        ///< of a simulation
    /// Overrides the job's data.path. Empty keeps it, which only ranks of one simulation may: they share the
    /// aggregator's files. A daemon always passes its own, for no path comes from a peer.
    std::string data_path;
    /// The folder for what error feedback keeps of clients (node/residual_store.hpp). Empty: `clients` in the job's
    /// output.dir, which only ranks of one simulation may use, for the same reason.
    std::string state;
    const Dataset* data = nullptr;  ///< the training set, if it is already in memory; null loads it
    Device device{};                ///< what this node executes, as it tells the aggregator; by default everything
    /// Told of everything that is heard and of every answer, for logs; null: nobody.
    std::function<void(const Message& heard, const Message* answer)> watch = nullptr;
    Makers makers{};  ///< the aggregator's ServerMakers::shared
};

/// What a node is between its connections: the job's network, the model that it holds, the update that it has not heard
/// the end of. Pure but for the data and the residuals that it reads and writes: messages in, messages out; no clock,
/// no socket. One thread.
class Session {
public:
    explicit Session(SessionSetup setup);
    Session(Session&&) noexcept;
    ~Session();

    /// Begins a connection: the first thing to say on it. Every other message of it is to be handled in order.
    Hello hello();
    /// What to answer, if anything. A task that fails, for whatever reason, is reported and does not end the session; a
    /// session that speaks for one client refuses another's. Such a session answers a task that it has done already, of
    /// the same round, plan and model, by the very same update, until it hears that the round is committed, or gets
    /// another task. Throws InputError when the job or its data cannot be used here, FormatError when the aggregator
    /// says what it may not at this point: a plan before its welcome, or a welcome as another client.
    std::optional<Message> handle(const Message& message);
    /// Whether the aggregator has welcomed it on this connection.
    bool welcomed() const;
    /// Why the aggregator said stop, once it did on this connection.
    const std::optional<std::string>& stopped() const;
    /// The setup's, with the speed of the last training.
    const Device& device() const;

private:
    struct State;
    std::unique_ptr<State> state_;
};

/// Converses over the channel until the aggregator says stop or is gone. Throws what handle() does, and IoError when
/// the channel fails.
void converse(Channel& channel, Session& session);

/// A session for one connection only. Returns the node's device with the speed that it trained at last, for the next
/// session's setup.
Device run_session(Channel& channel, const SessionSetup& setup);

}  // namespace dither
