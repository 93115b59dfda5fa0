#include "aggregator/registry.hpp"

#include "core/error.hpp"
#include "transport/messages.hpp"
#include "transport/node_id.hpp"

#include <algorithm>
#include <charconv>
#include <string_view>

namespace dither {

namespace {

constexpr const char* kFile = "nodes.tsv";

struct Line {
    std::uint32_t client = 0;
    std::string node;
};

/// Nothing for a line that is none.
std::optional<Line> parse(std::string_view text) {
    Line line;
    const auto [tab, error] = std::from_chars(text.data(), text.data() + text.size(), line.client);
    const auto digits = static_cast<std::size_t>(tab - text.data());
    if (error != std::errc{} || digits == text.size() || *tab != '\t')
        return std::nullopt;
    line.node = text.substr(digits + 1);
    return is_node_id(line.node) ? std::optional(line) : std::nullopt;
}

}  // namespace

Registry::Registry(Storage& storage, std::uint32_t clients)
    : count_(clients), taken_(clients), file_(storage.open_append(kFile)) {
    const std::string text = storage.read(kFile).value_or("");
    std::size_t number = 0;
    std::size_t at = 0;
    for (std::size_t end; (end = text.find('\n', at)) != text.npos; at = end + 1) {
        ++number;
        const auto line = parse(std::string_view(text).substr(at, end - at));
        if (!line && end + 1 == text.size())
            break;  // torn, too: its end came to the disk, its beginning did not
        if (!line || line->client >= count_ || taken_[line->client] || clients_of_.contains(line->node))
            throw InputError(
                fmt::format("{}:{}: expected CLIENT<tab>NODE, clients 0 .. {}, each once", kFile, number, count_ - 1));
        remember(line->node, line->client);
    }
    if (at != text.size())  // torn: nobody was told
        file_->truncate(at);
    else if (at > 0)
        file_->sync();  // the last process may have died before it did
}

Registry::~Registry() = default;

std::optional<std::uint32_t> Registry::client_of(const std::string& node, std::uint32_t wanted, std::string& why) {
    if (const auto known = clients_of_.find(node); known != clients_of_.end()) {
        if (wanted == kAssignedClient || wanted == known->second)
            return known->second;
        why = fmt::format("node {} speaks for client {}, not {}", node, known->second, wanted);
        return std::nullopt;
    }
    const std::uint32_t client = wanted == kAssignedClient ? lowest_free() : wanted;
    if (wanted == kAssignedClient && client == count_)
        why = fmt::format("all {} clients have their nodes", count_);
    else if (client >= count_)
        why = fmt::format("there is no client {}, expected 0 .. {}", client, count_ - 1);
    else if (taken_[client])
        why = fmt::format("client {} is another node's", client);
    else
        return assign(node, client, why);
    return std::nullopt;
}

std::optional<std::uint32_t> Registry::assign(const std::string& node, std::uint32_t client, std::string& why) {
    try {
        file_->append(fmt::format("{}\t{}\n", client, node));
    } catch (const DiskFull&) {
        why = "the aggregator's disk is full";
        return std::nullopt;
    }
    file_->sync();
    remember(node, client);
    return client;
}

void Registry::remember(const std::string& node, std::uint32_t client) {
    clients_of_[node] = client;
    taken_[client] = true;
}

std::uint32_t Registry::lowest_free() const {
    return static_cast<std::uint32_t>(std::ranges::find(taken_, false) - taken_.begin());
}

}  // namespace dither
