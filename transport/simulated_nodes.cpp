// What happens at the nodes' end of a simulated network.
#include "transport/simulated.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <utility>

namespace dither {

void SimulatedNetwork::start(NodeId id) {
    nodes_[id].program = nodes_[id].start();
    connect_later(id);
}

void SimulatedNetwork::run(NodeId id) {
    Node& node = nodes_[id];
    if (node.busy || node.inbox.empty())
        return;
    const std::optional<Frame> frame = std::move(node.inbox.front());
    node.inbox.pop_front();
    if (!frame)
        return leave(id);
    try {
        const Message message = decode_frame(*frame, FrameLimits::for_node());
        react(id, node.program->heard(message));
    } catch (const FormatError& error) {
        note(id, error.what());
        react(id, {.hang_up = true});
    }
}

void SimulatedNetwork::react(NodeId id, Reaction reaction) {
    Node& node = nodes_[id];
    node.busy = true;
    after(reaction.busy, [this, id, life = node.life, peer = node.connection, said = std::move(reaction)] {
        Node& self = nodes_[id];
        if (self.life != life)
            return;
        self.busy = false;
        for (const Frame& frame : said.frames)
            transmit(peer, Way::up, frame);
        if (said.hang_up && self.connection == peer)
            hang_up(id);
        run(id);
    });
}

void SimulatedNetwork::hang_up(NodeId id) {
    const PeerId peer = nodes_[id].connection;
    const Clock::time_point last = connection(peer).earliest[index_of(Way::up)];
    tell_hub(peer, std::max(last - now_, Clock::duration(0)) + delay(), "the peer has left");
    leave(id);
}

/// It knows that it has no connection any more.
void SimulatedNetwork::leave(NodeId id) {
    Node& node = nodes_[id];
    node.connection = 0;
    node.inbox.clear();
    connect_later(id);
}

void SimulatedNetwork::crash(NodeId id, Clock::duration pause) {
    Node& node = nodes_[id];
    if (!node.program)
        return;
    note(id, "crashes");
    const PeerId peer = std::exchange(node.connection, 0);
    node.program.reset();
    node.inbox.clear();
    node.busy = false;
    ++node.life;
    if (peer != 0)
        break_wire(peer, lateness(), Clock::duration(0), "the node crashed");
    after(pause, [this, id, life = node.life] {
        if (nodes_[id].life == life)
            start(id);
    });
}

}  // namespace dither
