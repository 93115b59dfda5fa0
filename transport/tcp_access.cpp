#include "core/error.hpp"
#include "transport/detail/access_rules.hpp"
#include "transport/node_id.hpp"

#include <algorithm>
#include <fstream>
#include <utility>

namespace dither::detail {
namespace {

/// A line an id. Empty lines and what follows a '#' are left out.
std::set<std::string> read_allowed(const std::filesystem::path& file) {
    std::ifstream in(file);
    std::set<std::string> ids;
    std::size_t number = 1;
    for (std::string line; std::getline(in, line); ++number) {
        line.erase(std::min(line.find('#'), line.size()));
        line.erase(line.find_last_not_of(" \t\r") + 1);
        if (line.empty())
            continue;
        if (!is_node_id(line))
            throw InputError(fmt::format("{}, line {}: expected a node id, [a-z0-9_-]{{1,64}}", file.string(), number));
        ids.insert(std::move(line));
    }
    if (!in.eof())
        throw InputError(fmt::format("allowed ids {}: the file cannot be read", file.string()));
    return ids;
}

}  // namespace

AccessRules::AccessRules(const TcpHubOptions& options) {
    if (options.tls)
        tls_.emplace(*options.tls, TlsContext::End::aggregator);
    if (!options.allowed.empty())
        allowed_ = read_allowed(options.allowed);
}

void AccessRules::require_allowed(const std::string& node) const {
    if (allowed_ && !allowed_->contains(node))
        throw FormatError(fmt::format("node {} is not allowed here", node));
}

void AccessRules::require_still_allowed(const std::string& node, const TlsStream* stream) const {
    require_allowed(node);
    if (stream != nullptr)
        stream->require_trusted_by(*tls_);
}

}  // namespace dither::detail
