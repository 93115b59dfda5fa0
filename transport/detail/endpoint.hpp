// Names and addresses of the two ends.
#pragma once

#include "transport/tcp.hpp"

#include <boost/asio/ip/tcp.hpp>

#include <string>
#include <vector>

namespace dither::detail {

using Address = boost::asio::ip::tcp::endpoint;

/// All addresses of the endpoint's host. Throws IoError if there is none.
std::vector<Address> resolve(const Endpoint& endpoint);
/// Throws InputError unless bytes to and from the address stay on this machine, or are encrypted.
void require_safe(const Address& address, bool encrypted);
/// HOST:PORT for logs, without the disguise in which IPv4 reaches an IPv6 socket.
std::string text_of(const Address& address);
bool is_loopback(const Address& address);
/// Who one address stands for when peers are counted: an IPv4 address, or a network of 2^64 IPv6 ones.
std::string origin_of(const Address& address);

}  // namespace dither::detail
