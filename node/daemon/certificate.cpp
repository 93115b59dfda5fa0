#include "node/daemon/certificate.hpp"

#include <fmt/format.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <ctime>
#include <memory>

#include "core/error.hpp"

namespace dither {
namespace {

template <auto Free>
struct Freed {
    void operator()(auto* object) const { Free(object); }
};
using Bio = std::unique_ptr<BIO, Freed<BIO_free>>;
using X509Ptr = std::unique_ptr<X509, Freed<X509_free>>;
using KeyPtr = std::unique_ptr<EVP_PKEY, Freed<EVP_PKEY_free>>;
using NamesPtr = std::unique_ptr<GENERAL_NAMES, Freed<GENERAL_NAMES_free>>;

Bio open(const std::filesystem::path& file) {
    Bio bio(BIO_new_file(file.c_str(), "r"));
    if (!bio)
        throw InputError(fmt::format("{}: cannot be read", file.string()));
    return bio;
}

X509Ptr read_x509(const std::filesystem::path& file) {
    X509Ptr certificate(PEM_read_bio_X509(open(file).get(), nullptr, nullptr, nullptr));
    if (!certificate)
        throw InputError(fmt::format("{}: no certificate in PEM", file.string()));
    return certificate;
}

/// Never asks a terminal for a passphrase.
int no_passphrase(char*, int, int, void*) {
    return 0;
}

std::chrono::system_clock::time_point time_of(const ASN1_TIME* time) {
    std::tm broken_down{};
    ASN1_TIME_to_tm(time, &broken_down);
    return std::chrono::system_clock::from_time_t(::timegm(&broken_down));
}

std::vector<std::string> names_of(const X509& certificate) {
    std::vector<std::string> result;
    const NamesPtr names(
        static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(&certificate, NID_subject_alt_name, nullptr, nullptr)));
    for (int i = 0; names && i < sk_GENERAL_NAME_num(names.get()); ++i) {
        const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), i);
        if (name->type == GEN_DNS)
            result.emplace_back(reinterpret_cast<const char*>(ASN1_STRING_get0_data(name->d.dNSName)),
                                static_cast<std::size_t>(ASN1_STRING_length(name->d.dNSName)));
    }
    return result;
}

}  // namespace

Certificate read_certificate(const std::filesystem::path& file) {
    const X509Ptr certificate = read_x509(file);
    return {.names = names_of(*certificate),
            .not_before = time_of(X509_get0_notBefore(certificate.get())),
            .not_after = time_of(X509_get0_notAfter(certificate.get()))};
}

bool key_fits(const std::filesystem::path& certificate, const std::filesystem::path& key) {
    const X509Ptr public_half = read_x509(certificate);
    const KeyPtr private_half(PEM_read_bio_PrivateKey(open(key).get(), nullptr, no_passphrase, nullptr));
    if (!private_half)
        throw InputError(fmt::format("{}: no private key in PEM without a passphrase", key.string()));
    return X509_check_private_key(public_half.get(), private_half.get()) == 1;
}

std::string certified_node(const std::filesystem::path& file) {
    const std::vector<std::string> names = read_certificate(file).names;
    if (names.size() != 1)
        throw InputError(
            fmt::format("{}: names {} nodes in its subjectAltName (DNS), expected 1", file.string(), names.size()));
    return names.front();
}

}  // namespace dither
