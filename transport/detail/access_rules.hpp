// Which nodes may connect: those that the authority signed and did not revoke, and that the list of allowed ids names.
#pragma once

#include "transport/detail/tls.hpp"
#include "transport/tcp.hpp"

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>

namespace dither::detail {

/// What the hub's files say now. Immutable.
class AccessRules {
public:
    /// Throws InputError that names the file if one cannot be used.
    explicit AccessRules(const TcpHubOptions& options);

    /// nullptr: plaintext.
    const TlsContext* tls() const { return tls_ ? &*tls_ : nullptr; }
    /// Throws FormatError unless the node is on the list.
    void require_allowed(const std::string& node) const;
    /// Throws FormatError unless a node would be let in today that was so before these rules; `stream` is null in
    /// plaintext.
    void require_still_allowed(const std::string& node, const TlsStream* stream) const;

private:
    std::optional<TlsContext> tls_;
    std::optional<std::set<std::string>> allowed_;
};

}  // namespace dither::detail
