// TLS 1.3 over a socket, both ends verified. OpenSSL reads and writes the socket itself: Asio's own stream keeps 34 KiB
// of buffers a connection, and two rings.
#pragma once

#include "transport/detail/byte_stream.hpp"
#include "transport/tcp.hpp"

#include <openssl/ssl.h>

#include <memory>
#include <string>

namespace dither::detail {

class TlsStream;

/// Certificates, key and rules of one end. Immutable; streams keep what they need of it.
class TlsContext {
public:
    enum class End { aggregator, node };

    /// Throws InputError that names the file if one cannot be used.
    TlsContext(const TlsFiles& files, End end);

    /// The aggregator's end.
    std::unique_ptr<TlsStream> accept(Socket& socket) const;
    /// The node's: the other end's certificate must be for `host`, a name or an address. Throws
    /// InputError on a host that no certificate can be for.
    std::unique_ptr<TlsStream> connect(Socket& socket, const std::string& host) const;

private:
    friend class TlsStream;
    struct Free {
        void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
    };
    std::unique_ptr<SSL_CTX, Free> context_;
};

class TlsStream final : public ByteStream {
public:
    TlsStream(SSL_CTX* context, Socket& socket);

    Step handshake() override;
    Step read(std::span<std::byte> into, std::size_t& count) override;
    Step write(std::span<const std::byte> from, std::size_t& count) override;
    void end_writing() noexcept override;
    std::uint64_t written() const override { return BIO_number_written(SSL_get_wbio(ssl_.get())); }

    /// The node that the other end's certificate is for: its one DNS name. Throws FormatError if that is not a node's.
    std::string node() const;
    /// The aggregator's end: throws FormatError unless `context` would take the node's certificate today.
    void require_trusted_by(const TlsContext& context) const;

private:
    friend class TlsContext;
    /// What a call's result says. Throws IoError or FormatError.
    Step step_of(int result) const;

    struct Free {
        void operator()(SSL* ssl) const { SSL_free(ssl); }
    };
    Socket& socket_;
    std::unique_ptr<SSL, Free> ssl_;
};

}  // namespace dither::detail
