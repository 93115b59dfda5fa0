#include "transport/detail/tls.hpp"

#include "core/error.hpp"
#include "transport/node_id.hpp"

#include <boost/asio/ip/address.hpp>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <cerrno>
#include <new>
#include <system_error>
#include <utility>

namespace dither::detail {
namespace {

constexpr int kMostIntermediates = 2;  ///< between a certificate and its authority
/// What the other end may send of certificates before it is known.
constexpr long kMostCertificateBytes = 32 << 10;

template <auto Function>
struct FreeBy {
    template <typename T>
    void operator()(T* pointer) const {
        Function(pointer);
    }
};
using Bio = std::unique_ptr<BIO, FreeBy<BIO_free_all>>;
using RevocationList = std::unique_ptr<X509_CRL, FreeBy<X509_CRL_free>>;
using StoreContext = std::unique_ptr<X509_STORE_CTX, FreeBy<X509_STORE_CTX_free>>;
using Names = std::unique_ptr<GENERAL_NAMES, FreeBy<GENERAL_NAMES_free>>;

/// The reason of the newest error of this thread, whose queue is empty then.
std::string last_error() {
    const unsigned long code = ERR_peek_last_error();
    ERR_clear_error();
    const char* reason = ERR_reason_error_string(code);
    return reason != nullptr ? reason : "unknown error";
}

void check(bool worked, const char* what, const std::filesystem::path& file) {
    if (!worked)
        throw InputError(fmt::format("{} {}: {}", what, file.string(), last_error()));
}

/// Every list of the file. A certificate, even an intermediate one, is refused, too, where its issuer has no list or an
/// expired one.
void load_revocations(X509_STORE* store, const std::filesystem::path& file) {
    const Bio bio(BIO_new_file(file.c_str(), "r"));
    check(bio != nullptr, "revocation list", file);
    int lists = 0;
    for (;; ++lists) {
        const RevocationList list(PEM_read_bio_X509_CRL(bio.get(), nullptr, nullptr, nullptr));
        if (list == nullptr)
            break;
        check(X509_STORE_add_crl(store, list.get()) == 1, "revocation list", file);
    }
    check(lists > 0 && ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE, "revocation list", file);
    ERR_clear_error();
    X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
}

/// Never asks a terminal.
int no_passphrase(char*, int, int, void*) {
    return 0;
}

/// Without session tickets or caches: a resumed session would skip the certificates, and with them every revocation.
void set_rules(SSL_CTX* context) {
    SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
    SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
    SSL_CTX_set_verify_depth(context, kMostIntermediates);
    SSL_CTX_set_max_cert_list(context, kMostCertificateBytes);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(context, 0);
    SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
    SSL_CTX_set_mode(context,
                     SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
}

void load_files(SSL_CTX* context, const TlsFiles& files) {
    SSL_CTX_set_default_passwd_cb(context, no_passphrase);
    check(SSL_CTX_use_certificate_chain_file(context, files.certificate.c_str()) == 1, "certificate",
          files.certificate);
    check(SSL_CTX_use_PrivateKey_file(context, files.key.c_str(), SSL_FILETYPE_PEM) == 1, "key", files.key);
    check(SSL_CTX_check_private_key(context) == 1, "key", files.key);
    check(SSL_CTX_load_verify_file(context, files.authority.c_str()) == 1, "authority", files.authority);
    if (!files.revoked.empty())
        load_revocations(SSL_CTX_get_cert_store(context), files.revoked);
}

/// Whom the other end's certificate must be for. The scope of an IPv6 address ("%eth0") means something on this machine
/// only, and no certificate has one.
void expect_host(SSL* ssl, const std::string& host) {
    boost::system::error_code no_address;
    boost::asio::ip::make_address(host, no_address);
    const bool expected =
        no_address ? SSL_set_tlsext_host_name(ssl, host.c_str()) == 1 && SSL_set1_host(ssl, host.c_str()) == 1
                   : X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host.substr(0, host.find('%')).c_str()) == 1;
    ERR_clear_error();
    if (!expected)
        throw InputError(fmt::format("{}: no host that a certificate can be for", host));
}

std::string dns_name(const GENERAL_NAME& name) {
    const ASN1_IA5STRING* text = name.d.dNSName;
    return {reinterpret_cast<const char*>(ASN1_STRING_get0_data(text)),
            static_cast<std::size_t>(ASN1_STRING_length(text))};
}

}  // namespace

TlsContext::TlsContext(const TlsFiles& files, End end)
    : context_(SSL_CTX_new(end == End::aggregator ? TLS_server_method() : TLS_client_method())) {
    ERR_clear_error();
    if (!context_)
        throw std::bad_alloc();
    set_rules(context_.get());
    load_files(context_.get(), files);
}

std::unique_ptr<TlsStream> TlsContext::accept(Socket& socket) const {
    auto stream = std::make_unique<TlsStream>(context_.get(), socket);
    SSL_set_accept_state(stream->ssl_.get());
    return stream;
}

std::unique_ptr<TlsStream> TlsContext::connect(Socket& socket, const std::string& host) const {
    auto stream = std::make_unique<TlsStream>(context_.get(), socket);
    SSL* const ssl = stream->ssl_.get();
    SSL_set_connect_state(ssl);
    expect_host(ssl, host);
    return stream;
}

TlsStream::TlsStream(SSL_CTX* context, Socket& socket) : socket_(socket), ssl_(SSL_new(context)) {
    if (!ssl_ || SSL_set_fd(ssl_.get(), static_cast<int>(socket.native_handle())) != 1)
        throw std::bad_alloc();
}

Step TlsStream::handshake() {
    ERR_clear_error();
    return step_of(SSL_do_handshake(ssl_.get()));
}

Step TlsStream::read(std::span<std::byte> into, std::size_t& count) {
    ERR_clear_error();
    return step_of(SSL_read_ex(ssl_.get(), into.data(), into.size(), &count));
}

Step TlsStream::write(std::span<const std::byte> from, std::size_t& count) {
    ERR_clear_error();
    return step_of(SSL_write_ex(ssl_.get(), from.data(), from.size(), &count));
}

Step TlsStream::step_of(int result) const {
    if (result == 1)
        return Step::done;
    const int failure = errno;
    switch (SSL_get_error(ssl_.get(), result)) {
        case SSL_ERROR_WANT_READ:
            return Step::needs_readable;
        case SSL_ERROR_WANT_WRITE:
            return Step::needs_writable;
        case SSL_ERROR_ZERO_RETURN:
            return Step::ended;
        case SSL_ERROR_SYSCALL:
            throw IoError(failure == 0 ? "the connection was cut" : std::generic_category().message(failure));
        default:
            break;
    }
    if (ERR_GET_REASON(ERR_peek_last_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
        throw IoError("the connection was cut");
    const long verdict = SSL_get_verify_result(ssl_.get());
    const std::string reason = last_error();
    if (verdict != X509_V_OK)
        throw FormatError(fmt::format("TLS: {}: {}", reason, X509_verify_cert_error_string(verdict)));
    throw FormatError(fmt::format("TLS: {}", reason));
}

void TlsStream::end_writing() noexcept {
    ERR_clear_error();
    SSL_shutdown(ssl_.get());
    ERR_clear_error();
    boost::system::error_code ignored;
    socket_.shutdown(Socket::shutdown_send, ignored);
}

std::string TlsStream::node() const {
    const Names names(static_cast<GENERAL_NAMES*>(
        X509_get_ext_d2i(SSL_get0_peer_certificate(ssl_.get()), NID_subject_alt_name, nullptr, nullptr)));
    std::string node;
    for (int i = 0; i < sk_GENERAL_NAME_num(names.get()); ++i) {
        const GENERAL_NAME& name = *sk_GENERAL_NAME_value(names.get(), i);
        if (name.type != GEN_DNS)
            continue;
        if (!node.empty())
            throw FormatError("its certificate has several DNS names: which node is it?");
        node = dns_name(name);
    }
    if (!is_node_id(node))
        throw FormatError("its certificate has no DNS name that a node may have: [a-z0-9_-]{1,64}");
    return node;
}

void TlsStream::require_trusted_by(const TlsContext& context) const {
    const StoreContext verification(X509_STORE_CTX_new());
    X509_STORE_CTX* const raw = verification.get();
    if (raw == nullptr ||
        X509_STORE_CTX_init(raw, SSL_CTX_get_cert_store(context.context_.get()), SSL_get0_peer_certificate(ssl_.get()),
                            SSL_get_peer_cert_chain(ssl_.get())) != 1)
        throw std::bad_alloc();
    X509_STORE_CTX_set_default(raw, "ssl_client");
    X509_VERIFY_PARAM_set_depth(X509_STORE_CTX_get0_param(raw), kMostIntermediates);
    ERR_clear_error();
    if (X509_verify_cert(raw) == 1)
        return;
    ERR_clear_error();
    throw FormatError(fmt::format("TLS: {}", X509_verify_cert_error_string(X509_STORE_CTX_get_error(raw))));
}

}  // namespace dither::detail
