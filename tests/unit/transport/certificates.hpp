// A certificate authority for tests: keys on P-256, everything in PEM files of one folder.
#pragma once

#include "transport/tcp.hpp"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <cstdio>
#include <ctime>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace dither::test {

class Authority {
public:
    struct Request {
        std::string names;        ///< as openssl.cnf has them: "DNS:node-1"; empty: none
        std::string usage;        ///< "clientAuth", "serverAuth"; empty: any
        long valid_from = -3600;  ///< seconds from now
        long valid_until = 24 * 3600;
    };

    explicit Authority(std::filesystem::path folder)
        : folder_(std::move(folder)), root_(folder_ / "authority.pem"), key_(new_key()) {
        std::filesystem::create_directories(folder_);
        certificate_ = make({.names = ""}, key_.get(), "test authority", true);
        write("authority.pem", [&](std::FILE* file) { PEM_write_X509(file, certificate_.get()); });
    }
    /// An intermediate one, whose certificate `above` signs and whose nodes show it behind their own.
    Authority(std::filesystem::path folder, Authority& above, const std::string& name)
        : folder_(std::move(folder)), root_(above.root_), key_(new_key()), is_intermediate_(true) {
        std::filesystem::create_directories(folder_);
        certificate_ = above.make({.names = ""}, key_.get(), name, true);
        above.remember(name, *certificate_);
    }

    /// Files of a new key and certificate, `name`.pem and `name`.key.
    TlsFiles issue(const std::string& name, const Request& request) {
        const Key key = new_key();
        const auto certificate = make(request, key.get(), name, false);
        remember(name, *certificate);
        write(name + ".key",
              [&](std::FILE* file) { PEM_write_PrivateKey(file, key.get(), nullptr, nullptr, 0, nullptr, nullptr); });
        write(name + ".pem", [&](std::FILE* file) {
            PEM_write_X509(file, certificate.get());
            if (is_intermediate_)
                PEM_write_X509(file, certificate_.get());
        });
        return {.certificate = folder_ / (name + ".pem"),
                .key = folder_ / (name + ".key"),
                .authority = root_,
                .revoked = {}};
    }
    TlsFiles aggregator() {
        return issue("aggregator", {.names = "DNS:localhost,IP:127.0.0.1,IP:::1", .usage = "serverAuth"});
    }
    TlsFiles node(const std::string& id) { return issue(id, {.names = "DNS:" + id, .usage = "clientAuth"}); }

    /// Replaces a key by one under a passphrase.
    static void lock(const std::filesystem::path& file, std::string passphrase) {
        const Key key = new_key();
        const std::unique_ptr<BIO, decltype(&BIO_free)> out(BIO_new_file(file.c_str(), "w"), BIO_free);
        PEM_write_bio_PrivateKey(out.get(), key.get(), EVP_aes_128_cbc(),
                                 reinterpret_cast<unsigned char*>(passphrase.data()),
                                 static_cast<int>(passphrase.size()), nullptr, nullptr);
    }

    /// A list of these; returns its file.
    std::filesystem::path revoke(const std::vector<std::string>& names) {
        const std::unique_ptr<X509_CRL, decltype(&X509_CRL_free)> list(X509_CRL_new(), X509_CRL_free);
        X509_CRL_set_version(list.get(), 1);
        X509_CRL_set_issuer_name(list.get(), X509_get_subject_name(certificate_.get()));
        X509_CRL_set1_lastUpdate(list.get(), at(-3600).get());
        X509_CRL_set1_nextUpdate(list.get(), at(24 * 3600).get());
        for (const std::string& name : names) {
            X509_REVOKED* entry = X509_REVOKED_new();
            X509_REVOKED_set_serialNumber(entry, const_cast<ASN1_INTEGER*>(serials_.at(name)));
            X509_REVOKED_set_revocationDate(entry, at(-60).get());
            X509_CRL_add0_revoked(list.get(), entry);
        }
        X509_CRL_sort(list.get());
        X509_CRL_sign(list.get(), key_.get(), EVP_sha256());
        write("revoked.pem", [&](std::FILE* file) { PEM_write_X509_CRL(file, list.get()); });
        return folder_ / "revoked.pem";
    }

private:
    using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
    using Certificate = std::unique_ptr<X509, decltype(&X509_free)>;
    using Time = std::unique_ptr<ASN1_TIME, decltype(&ASN1_TIME_free)>;

    static Key new_key() { return {EVP_EC_gen("P-256"), EVP_PKEY_free}; }
    static Time at(long seconds) { return {X509_gmtime_adj(nullptr, seconds), ASN1_TIME_free}; }

    static void extend(X509* certificate, X509* issuer, int extension, const std::string& value) {
        X509V3_CTX context;
        X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
        X509_EXTENSION* made = X509V3_EXT_conf_nid(nullptr, &context, extension, value.c_str());
        if (made == nullptr)
            throw std::runtime_error("an extension could not be made: " + value);
        X509_add_ext(certificate, made, -1);
        X509_EXTENSION_free(made);
    }

    Certificate make(const Request& request, EVP_PKEY* key, const std::string& name, bool is_authority) {
        Certificate made(X509_new(), X509_free);
        X509_set_version(made.get(), 2);
        ASN1_INTEGER_set(X509_get_serialNumber(made.get()), ++last_serial_);
        X509_gmtime_adj(X509_getm_notBefore(made.get()), request.valid_from);
        X509_gmtime_adj(X509_getm_notAfter(made.get()), request.valid_until);
        X509_set_pubkey(made.get(), key);
        X509_NAME_add_entry_by_txt(X509_get_subject_name(made.get()), "CN", MBSTRING_ASC,
                                   reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
        X509* const issuer = certificate_ == nullptr ? made.get() : certificate_.get();
        X509_set_issuer_name(made.get(), X509_get_subject_name(issuer));
        if (is_authority) {
            extend(made.get(), issuer, NID_basic_constraints, "critical,CA:TRUE");
            extend(made.get(), issuer, NID_key_usage, "critical,keyCertSign,cRLSign");
        }
        if (!request.names.empty())
            extend(made.get(), issuer, NID_subject_alt_name, request.names);
        if (!request.usage.empty())
            extend(made.get(), issuer, NID_ext_key_usage, request.usage);
        X509_sign(made.get(), key_.get(), EVP_sha256());
        return made;
    }

    void remember(const std::string& name, const X509& certificate) {
        issued_.push_back(std::shared_ptr<X509>(X509_dup(&certificate), X509_free));
        serials_[name] = X509_get0_serialNumber(issued_.back().get());
    }

    void write(const std::string& name, const std::function<void(std::FILE*)>& content) const {
        const std::unique_ptr<std::FILE, decltype(&std::fclose)> file(std::fopen((folder_ / name).c_str(), "w"),
                                                                      std::fclose);
        if (file == nullptr)
            throw std::runtime_error("cannot write " + name);
        content(file.get());
    }

    std::filesystem::path folder_;
    std::filesystem::path root_;  ///< the file of the authority at the top
    Key key_;
    bool is_intermediate_ = false;
    Certificate certificate_{nullptr, X509_free};
    long last_serial_ = 0;
    std::vector<std::shared_ptr<X509>> issued_;
    std::map<std::string, const ASN1_INTEGER*> serials_;
};

}  // namespace dither::test
