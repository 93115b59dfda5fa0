#include "aggregator/detail/guests.hpp"

#include <set>
#include <utility>

#include <fmt/ranges.h>

namespace dither {

namespace {

bool is_limited(const Device& device) {
    return !device.widths.empty() || device.memory != 0;
}

/// "4, 8": the widths that the job fixes in any layer, whatever the plan.
std::string fixed_widths(const QuantizeOptions& quantize, const Schema& schema) {
    std::set<int> widths;
    for (const LayerSpec& layer : schema.layers()) {
        const QuantizeOptions options = options_for(quantize, layer.name);
        widths.insert({options.weights.bits, options.activations.bits, options.gradients.bits, options.optimizer_bits});
    }
    widths.erase(0);
    return fmt::format("{}", fmt::join(widths, ", "));
}

}  // namespace

Guests::Guests(const Job& job, const Schema& schema, Registry* registry, bool return_)
    : quantize_(job.quantize),
      schema_(schema),
      clients_(job.federation.clients),
      registry_(registry),
      return_(return_) {}

void Guests::expect(PeerId peer, const std::string& identity) {
    if (!identity.empty())
        identities_[peer] = identity;
}

std::string Guests::greet(PeerId peer, const Hello& hello, std::optional<PeerId>& superseded) {
    if (std::string reason = refusal_of_client(hello.client); !reason.empty())
        return reason;
    if (contains(peer))
        return "said hello twice";
    if (const auto proved = identities_.find(peer); proved != identities_.end() && proved->second != hello.node)
        return fmt::format("calls itself {}, but has proved to be {}", hello.node, proved->second);
    if (std::string reason = refusal_of(hello); !reason.empty())
        return reason;
    std::optional<std::uint32_t> client = hello.client;
    std::string why;
    if (registry_ != nullptr && client != kAnyClient)
        client = registry_->client_of(hello.node, hello.client, why);
    if (!client)
        return why;
    identities_.erase(peer);
    superseded = left_behind_by(hello.node);
    guests_[peer] = {.node = hello.node, .client = *client, .device = hello.device};
    if (return_)
        nodes_[hello.node] = peer;
    return {};
}

std::string Guests::refusal_of_client(std::uint32_t client) const {
    if (client == kAssignedClient)
        return registry_ != nullptr ? "" : "leaves its client to the aggregator, which assigns none here";
    if (client == kAnyClient && return_)
        return "speaks for any client: expected one, whose data it owns";
    if (client != kAnyClient && client >= clients_)
        return fmt::format("speaks for client {}, expected 0 .. {}", client, clients_ - 1);
    return {};
}

std::string Guests::refusal_of(const Hello& hello) const {
    // Who hosts a client is chance: what it runs, and so the model, must not follow from it.
    if (hello.client == kAnyClient && is_limited(hello.device))
        return "limits its widths or memory, but speaks for any client: expected a device without limits, or a peer "
               "that speaks for one client";
    if (!executes_fixed_bits(hello.device.widths, quantize_))
        return fmt::format("executes {} bits, expected also those that [quantize] fixes: {}",
                           fmt::join(hello.device.widths, ", "), fixed_widths(quantize_, schema_));
    return {};
}

std::optional<PeerId> Guests::left_behind_by(const std::string& node) const {
    const auto at = nodes_.find(node);
    return at == nodes_.end() ? std::nullopt : std::optional(at->second);
}

void Guests::forget(PeerId peer) {
    identities_.erase(peer);
    const auto guest = guests_.find(peer);
    if (guest == guests_.end())
        return;
    if (const auto node = nodes_.find(guest->second.node); node != nodes_.end() && node->second == peer)
        nodes_.erase(node);
    guests_.erase(guest);
}

std::string Guests::name_of(PeerId peer) const {
    if (!contains(peer))
        return fmt::format("peer {}", peer);
    const Guest& guest = at(peer);
    return guest.hosts_any() ? fmt::format("node {}", guest.node)
                             : fmt::format("node {} (client {})", guest.node, guest.client);
}

}  // namespace dither
