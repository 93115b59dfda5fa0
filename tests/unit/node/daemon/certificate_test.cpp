#include "node/daemon/certificate.hpp"

#include <doctest/doctest.h>

#include "core/error.hpp"
#include "node/daemon/check.hpp"
#include "tests/unit/temporary_folder.hpp"

using namespace dither;
using namespace std::chrono_literals;
using test::TemporaryFolder;
using test::write_text;

namespace {

/// For DNS:edge-1, made for this test, and its key; another key; a certificate for two names.
constexpr const char* kCertificate = R"(-----BEGIN CERTIFICATE-----
MIIBhzCCASygAwIBAgIUWzC+QV0Yh2ZOARmwbzomIK8KatcwCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEZWRnZTAeFw0yNjExMjIxNDQwMTFaFw0zNjExMTkxNDQwMTFa
MA8xDTALBgNVBAMMBGVkZ2UwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAARUKtcf
fqptaIqbu1/+ThaThHFBrASN8uv7UeCUR1j67XtX8rtcv9x3D1yIyA92CU0W55QX
83Uc40REDCbS7nuqo2YwZDAdBgNVHQ4EFgQUCQrsLaPkM/kCmuXh1+fFdnSmLbQw
HwYDVR0jBBgwFoAUCQrsLaPkM/kCmuXh1+fFdnSmLbQwDwYDVR0TAQH/BAUwAwEB
/zARBgNVHREECjAIggZlZGdlLTEwCgYIKoZIzj0EAwIDSQAwRgIhAIczHAvbbsk2
MrtmA3SENg/fBqQP2zyZmxWxybvZbuO4AiEArppaC0grNXSpYbouip3zatl03u64
JRPCN1XUg5QWRkI=
-----END CERTIFICATE-----
)";
constexpr const char* kKey = R"(-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgpUu4gUuiZx8zdTmO
gltQgGab4k8bWMu+znJaQ5zdYmuhRANCAARUKtcffqptaIqbu1/+ThaThHFBrASN
8uv7UeCUR1j67XtX8rtcv9x3D1yIyA92CU0W55QX83Uc40REDCbS7nuq
-----END PRIVATE KEY-----
)";
constexpr const char* kOtherKey = R"(-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgB9J0TPB5krRZDpz4
QbDAJYetW6ToY/YGCiDzyy7Y3zOhRANCAATUSLycsJ5CeXcDxXW65Wdr4ACLwgoI
3rYRh5XD5H3Z2E+2ElHZCXavdPRxp7QPMgJuD7WSd6dPoGWq1O0Q0IcS
-----END PRIVATE KEY-----
)";
constexpr const char* kForTwo = R"(-----BEGIN CERTIFICATE-----
MIIBjTCCATSgAwIBAgIUSu7eGe9iO9PW5cP+6HDB/8KKnZIwCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEZWRnZTAeFw0yNjExMjIxNDQwMjVaFw0zNjExMTkxNDQwMjVa
MA8xDTALBgNVBAMMBGVkZ2UwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAARUKtcf
fqptaIqbu1/+ThaThHFBrASN8uv7UeCUR1j67XtX8rtcv9x3D1yIyA92CU0W55QX
83Uc40REDCbS7nuqo24wbDAdBgNVHQ4EFgQUCQrsLaPkM/kCmuXh1+fFdnSmLbQw
HwYDVR0jBBgwFoAUCQrsLaPkM/kCmuXh1+fFdnSmLbQwDwYDVR0TAQH/BAUwAwEB
/zAZBgNVHREEEjAQggZlZGdlLTGCBmVkZ2UtMjAKBggqhkjOPQQDAgNHADBEAiB9
aZDff+FkbPuCXFtSBjM9uK9UwSS2KeN6nEu2dJ3/zwIgJRJ9Mvz4VFnWhBzfhn+Q
ar3x1vMuMiNYeRARj4tqCtU=
-----END CERTIFICATE-----
)";

struct Files {
    TemporaryFolder folder;
    TlsFiles tls{.certificate = folder.path() / "node.pem", .key = folder.path() / "node.key"};

    Files() {
        write_text(tls.certificate, kCertificate);
        write_text(tls.key, kKey);
    }
};

}  // namespace

TEST_SUITE("node/daemon/certificate") {
    TEST_CASE("a certificate says for which node and for how long it is") {
        const Files files;
        const Certificate certificate = read_certificate(files.tls.certificate);
        CHECK(certificate.names == std::vector<std::string>{"edge-1"});
        CHECK(certificate.not_after - certificate.not_before == 3650 * 24h);
        CHECK(certified_node(files.tls.certificate) == "edge-1");
    }

    TEST_CASE("a certificate for several nodes is nobody's") {
        const Files files;
        write_text(files.tls.certificate, kForTwo);
        CHECK_THROWS_WITH_AS(certified_node(files.tls.certificate), doctest::Contains("names 2 nodes"), InputError);
    }

    TEST_CASE("files that hold no certificate or no key are named") {
        const Files files;
        CHECK_THROWS_WITH_AS(read_certificate(files.folder.path() / "none"), doctest::Contains("none"), InputError);
        CHECK_THROWS_WITH_AS(read_certificate(files.tls.key), doctest::Contains("node.key"), InputError);
        CHECK_THROWS_WITH_AS(key_fits(files.tls.certificate, files.tls.certificate), doctest::Contains("node.pem"),
                             InputError);
    }

    TEST_CASE("a check finds what is wrong with a certificate before the aggregator does") {
        const Files files;
        const auto begin = read_certificate(files.tls.certificate).not_before;
        CHECK(check_certificate(files.tls, "edge-1", begin + 1h).good);
        CHECK(check_certificate(files.tls, "", begin + 1h).text.find("for 'edge-1', until") == 0);
        CHECK(check_certificate(files.tls, "edge-2", begin + 1h).text ==
              "it is for 'edge-1', but this node is 'edge-2'");
        CHECK(check_certificate(files.tls, "", begin + 4000 * 24h).text.find("it has expired") == 0);
        write_text(files.tls.key, kOtherKey);
        CHECK(check_certificate(files.tls, "", begin + 1h).text.find("is not the key of") != std::string::npos);
    }

    TEST_CASE("a clock before the certificate's begin is wrong") {
        const Files files;
        const auto begin = read_certificate(files.tls.certificate).not_before;
        CHECK_FALSE(check_clock(&files.tls, begin - 1s).good);
        CHECK(check_clock(&files.tls, begin + 1s).good);
        CHECK(check_clock(nullptr, begin - 1s).good);
    }
}

TEST_SUITE("node/daemon/check") {
    TEST_CASE("a check reads the data in whichever format it is, and says what it found") {
        const TemporaryFolder folder;
        write_text(folder.path() / "table.csv", "1,2,0\n3,4,1\n5,6,0\n7,8,1\n9,8,0\n");
        const Finding found = check_data((folder.path() / "table.csv").string());
        CHECK(found.good);
        CHECK(found.text == "csv [4, 2], 2 classes within 0 .. 1");
        write_text(folder.path() / "few.csv", "1,2,7\n3,4,7\n5,6,7\n7,8,7\n9,8,7\n");
        CHECK(check_data((folder.path() / "few.csv").string()).text == "csv [4, 2], 1 classes within 7 .. 7");
        write_text(folder.path() / "targets.csv", "1,2,0.5\n3,4,-1\n5,6,2\n7,8,1\n9,8,0\n");
        CHECK(check_data((folder.path() / "targets.csv").string()).text == "csv [4, 2], 1 targets");
        const Finding missing = check_data((folder.path() / "none").string());
        CHECK_FALSE(missing.good);
        CHECK(missing.subject == "data");
    }

    TEST_CASE("a check finds a state folder that cannot be used") {
        const TemporaryFolder folder;
        CHECK(check_state(folder.path()).good);
        write_text(folder.path() / "file", "");
        CHECK_FALSE(check_state(folder.path() / "file").good);
    }
}
