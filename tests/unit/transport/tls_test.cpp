#include "core/error.hpp"
#include "tests/unit/temporary_folder.hpp"
#include "tests/unit/transport/certificates.hpp"
#include "tests/unit/transport/tcp_ends.hpp"

#include "transport/detail/tls.hpp"

#include <boost/asio/io_context.hpp>

#include <functional>

namespace {

using namespace dither;
using namespace dither::test;

struct Federation {
    TemporaryFolder folder;
    Authority authority{folder.path() / "ours"};
    Log log;

    TcpHubOptions hub_options() {
        TcpHubOptions options = on_loopback(log);
        options.tls = authority.aggregator();
        options.limits = impatient();
        options.limits.handshake = 5s;
        return options;
    }
    static TcpChannelOptions node_options(const TcpHub& hub, const TlsFiles& files) {
        TcpChannelOptions options = to(hub);
        options.tls = files;
        return options;
    }
    TcpChannelOptions node(const TcpHub& hub, const std::string& id) { return node_options(hub, authority.node(id)); }
};

/// The node learns of it either while it connects or when it listens. (In TLS 1.3 a client has finished before the
/// server has seen its certificate.)
bool turned_away(const TcpChannelOptions& options, const std::string& name = "n") {
    try {
        const auto channel = connect_tcp(options);
        channel->send(Hello{.node = name});
        return !channel->receive();
    } catch (const IoError&) {
        return true;
    } catch (const FormatError&) {
        return true;
    }
}

}  // namespace

TEST_SUITE("transport/tls") {
    TEST_CASE("a node is who its certificate says, and both hear each other") {
        Federation federation;
        TcpHub hub(federation.hub_options());
        const auto channel = connect_tcp(federation.node(hub, "node-1"));
        channel->send(Hello{.node = "node-1"});
        const auto joined = await_one<PeerJoined>(hub);
        CHECK(joined.identity == "node-1");
        CHECK(await_one<Received>(hub).message == Message(Hello{.node = "node-1"}));
        hub.admit(joined.peer, FrameLimits::for_model(2'000'000, 1));
        RoundPlan plan{.round = 1};
        plan.parts.push_back({.round = 1, .steps = {}, .payload = std::vector<std::byte>(3'000'000, std::byte{3})});
        hub.send(joined.peer, plan);
        const Message update = Update{.payload = std::vector<std::byte>(3'000'000, std::byte{9})};
        channel->send(update);
        CHECK(channel->receive() == Message(plan));
        CHECK(await_one<Received>(hub).message == update);
        hub.drop(joined.peer, "enough");
        CHECK(channel->receive() == Message(Stop{.reason = "enough"}));
        CHECK_FALSE(channel->receive());
        CHECK(federation.log.lines().empty());
    }

    TEST_CASE("a channel that is destroyed delivers what is queued, and close does") {
        Federation federation;
        TcpHub hub(federation.hub_options());
        auto leaving = connect_tcp(federation.node(hub, "leaving"));
        leaving->send(Hello{.node = "leaving"});
        hub.admit(await_hello(hub), FrameLimits::for_model(2'000'000, 1));
        const Message update = Update{.payload = std::vector<std::byte>(2'000'000, std::byte{9})};
        leaving->send(update);
        leaving.reset();
        CHECK(await_one<Received>(hub).message == update);
        CHECK(await_one<PeerLost>(hub).reason == "the peer has left");
        const auto staying = connect_tcp(federation.node(hub, "staying"));
        staying->send(Hello{.node = "staying"});
        hub.send(await_hello(hub), Stop{.reason = "done"});
        hub.close();
        CHECK(staying->receive() == Message(Stop{.reason = "done"}));
        CHECK_FALSE(staying->receive());
        CHECK(federation.log.lines().empty());
    }

    TEST_CASE("certificates that are foreign, expired, early, for no node or for servers are refused and logged once") {
        Federation federation;
        Authority foreign(federation.folder.path() / "foreign");
        TcpHub hub(federation.hub_options());
        HealthyNode healthy(hub, federation.node(hub, "healthy"), "healthy");
        TlsFiles from_elsewhere = foreign.node("elsewhere");
        from_elsewhere.authority = federation.authority.aggregator().authority;
        const struct {
            TlsFiles files;
            const char* reason;
        } cases[] = {
            {from_elsewhere, "certificate verify failed"},
            {federation.authority.issue("old", {.names = "DNS:old", .valid_until = -60}), "certificate has expired"},
            {federation.authority.issue("early", {.names = "DNS:early", .valid_from = 3600}), "not yet valid"},
            {federation.authority.issue("nameless", {}), "has no DNS name that a node may have"},
            {federation.authority.issue("loud", {.names = "DNS:LOUD.example.org"}), "has no DNS name that a node may"},
            {federation.authority.issue("two", {.names = "DNS:one,DNS:two"}), "has several DNS names"},
            {federation.authority.issue("server", {.names = "DNS:server", .usage = "serverAuth"}), "purpose"},
        };
        std::size_t refused = 0;
        for (const auto& [files, reason] : cases) {
            INFO(reason);
            CHECK(turned_away(Federation::node_options(hub, files)));
            CHECK(eventually([&] { return federation.log.lines().size() > refused; }));
            CHECK(federation.log.lines().back().find(reason) != std::string::npos);
            CHECK(federation.log.lines().size() == ++refused);
            CHECK(hub.statistics().refused == refused);
            healthy.converse();
        }
    }

    TEST_CASE("a node that says another's name, or is not on the list, is refused and logged once") {
        Federation federation;
        TcpHubOptions options = federation.hub_options();
        options.allowed = federation.folder.path() / "allowed";
        write_text(options.allowed, "# ours\nhealthy\n\nnode-1  # in the cellar\n");
        TcpHub hub(options);
        HealthyNode healthy(hub, federation.node(hub, "healthy"), "healthy");
        CHECK(turned_away(federation.node(hub, "node-1"), "healthy"));
        CHECK(federation.log.has("(node-1) refused: it calls itself healthy"));
        CHECK(turned_away(federation.node(hub, "node-2"), "node-2"));
        CHECK(federation.log.has("(node-2) refused: node node-2 is not allowed here"));
        CHECK(federation.log.lines().size() == 2);
        healthy.converse();
    }

    TEST_CASE("a revoked certificate is refused; a list that cannot be used is an InputError") {
        Federation federation;
        TcpHubOptions options = federation.hub_options();
        const TlsFiles stolen = federation.authority.node("stolen");
        options.tls->revoked = federation.authority.revoke({"stolen"});
        TcpHub hub(options);
        HealthyNode healthy(hub, federation.node(hub, "healthy"), "healthy");
        CHECK(turned_away(Federation::node_options(hub, stolen), "stolen"));
        CHECK(federation.log.has("certificate revoked"));
        healthy.converse();
        write_text(options.tls->revoked, "no list");
        CHECK_THROWS_AS(TcpHub{options}, InputError);
    }

    TEST_CASE("a revoked intermediate authority takes what it signed with it") {
        Federation federation;
        Authority region(federation.folder.path() / "region", federation.authority, "region");
        TcpHubOptions options = federation.hub_options();
        options.tls->revoked = federation.folder.path() / "lists.pem";
        const auto revoke = [&](const std::vector<std::string>& names) {
            write_text(options.tls->revoked,
                       read_text(federation.authority.revoke(names)) + read_text(region.revoke({})));
        };
        revoke({});
        TcpHub hub(options);
        const auto channel = connect_tcp(Federation::node_options(hub, region.node("near")));
        channel->send(Hello{.node = "near"});
        await_hello(hub);
        revoke({"region"});
        hub.reload();
        CHECK(await_one<PeerLost>(hub).reason.find("revoked") != std::string::npos);
        CHECK(turned_away(Federation::node_options(hub, region.node("late")), "late"));
        CHECK(eventually([&] { return federation.log.count("certificate revoked") == 2; }));
    }

    TEST_CASE("plaintext to a TLS port and TLS to a plaintext port are refused and logged once") {
        Federation federation;
        TcpHub encrypted(federation.hub_options());
        CHECK(turned_away(to(encrypted)));
        CHECK(federation.log.has("TLS"));
        CHECK(federation.log.lines().size() == 1);
        Log log;
        TcpHub plain(on_loopback(log));
        CHECK_THROWS_AS(connect_tcp(federation.node(plain, "n")), IoError);
        CHECK(log.has("a frame begins with \"DTHR\""));
        CHECK(log.lines().size() == 1);
    }

    TEST_CASE("who opens a TLS connection and says nothing, or nothing sensible, is refused in time") {
        Federation federation;
        TcpHubOptions options = federation.hub_options();
        options.limits.handshake = 300ms;
        TcpHub hub(options);
        const RawClient silent(hub);
        CHECK(silent.closed());
        CHECK(federation.log.has("a handshake did not come within 0.3 s"));
        const RawClient senseless(hub);
        senseless.say(std::string(3000, '\x16'));
        CHECK(senseless.closed());
        CHECK(eventually([&] { return hub.statistics().refused == 2; }));
        CHECK(federation.log.lines().size() == 2);
    }

    TEST_CASE("a node turns away from an aggregator that is not for its host or not of its authority") {
        Federation federation;
        Authority foreign(federation.folder.path() / "foreign");
        TcpHubOptions options = federation.hub_options();
        options.tls = federation.authority.issue("other", {.names = "DNS:other.example.org", .usage = "serverAuth"});
        TcpHub other(options);
        CHECK_THROWS_AS(connect_tcp(federation.node(other, "n")), IoError);
        options.tls = federation.authority.node("impostor");  // a node's certificate serves no aggregator
        TcpHub impostor(options);
        CHECK_THROWS_AS(connect_tcp(federation.node(impostor, "n")), IoError);
        TcpHub ours(federation.hub_options());
        TlsFiles files = federation.authority.node("n");
        files.authority = foreign.node("n").authority;
        CHECK_THROWS_AS(connect_tcp(Federation::node_options(ours, files)), IoError);
    }

    TEST_CASE("an aggregator is found by name and by address") {
        Federation federation;
        TcpHub hub(federation.hub_options());
        for (const char* host : {"localhost", "127.0.0.1"}) {
            TcpChannelOptions options = federation.node(hub, "n");
            options.aggregator.host = host;
            const auto channel = connect_tcp(options);
            channel->send(Hello{.node = "n"});
            hub.drop(await_hello(hub), "enough");
            CHECK(channel->receive() == Message(Stop{.reason = "enough"}));
        }
    }

    TEST_CASE("an IPv6 address with a scope is held to the certificate, too") {
        Federation federation;
        const auto connect = [&](const std::string& addresses) {
            TcpHubOptions options = federation.hub_options();
            options.listen.host = "::1";
            options.tls = federation.authority.issue("here", {.names = addresses, .usage = "serverAuth"});
            const TcpHub hub(options);
            TcpChannelOptions to_it = federation.node(hub, "n");
            to_it.aggregator.host = "::1%1";
            return connect_tcp(to_it) != nullptr;
        };
        CHECK(connect("IP:::1"));
        CHECK_THROWS_WITH_AS(connect("IP:::2"), doctest::Contains("IP address mismatch"), IoError);
    }

    TEST_CASE("a host that no certificate can be for is an InputError") {
        Federation federation;
        const detail::TlsContext context(federation.authority.node("n"), detail::TlsContext::End::node);
        boost::asio::io_context io;
        detail::Socket socket(io, boost::asio::ip::tcp::v4());
        CHECK_NOTHROW(context.connect(socket, "fe80::1%lo"));
        CHECK_THROWS_WITH_AS(context.connect(socket, std::string(300, 'a')), doctest::Contains("no host"), InputError);
    }

    TEST_CASE("a key with a passphrase is an InputError, and nobody is asked for it") {
        Federation federation;
        TlsFiles files = federation.authority.node("n");
        federation.authority.lock(files.key, "secret");
        CHECK_THROWS_WITH_AS(detail::TlsContext(files, detail::TlsContext::End::node), doctest::Contains("n.key"),
                             InputError);
    }

    TEST_CASE("reload ends who is not allowed any more or was revoked, and everybody else goes on") {
        Federation federation;
        TcpHubOptions options = federation.hub_options();
        options.allowed = federation.folder.path() / "allowed";
        write_text(options.allowed, "healthy\nstolen\nunwanted\n");
        options.tls->revoked = federation.authority.revoke({});
        TcpHub hub(options);
        HealthyNode healthy(hub, federation.node(hub, "healthy"), "healthy");
        const auto stolen = connect_tcp(federation.node(hub, "stolen"));
        stolen->send(Hello{.node = "stolen"});
        const PeerId first = await_hello(hub);
        const auto unwanted = connect_tcp(federation.node(hub, "unwanted"));
        unwanted->send(Hello{.node = "unwanted"});
        const PeerId second = await_hello(hub);

        federation.authority.revoke({"stolen"});
        write_text(options.allowed, "healthy\nstolen\nnewcomer\n");
        hub.reload();
        std::map<PeerId, std::string> reasons;
        for (int i = 0; i < 2; ++i) {
            const auto lost = await_one<PeerLost>(hub);
            reasons[lost.peer] = lost.reason;
        }
        CHECK(reasons[first].find("revoked") != std::string::npos);
        CHECK(reasons[second].find("not allowed") != std::string::npos);
        CHECK(std::get<Stop>(stolen->receive().value()).reason == reasons[first]);
        CHECK(std::get<Stop>(unwanted->receive().value()).reason == reasons[second]);
        CHECK(federation.log.has("read again: 2 connections ended"));
        healthy.converse();
        HealthyNode newcomer(hub, federation.node(hub, "newcomer"), "newcomer");
        newcomer.converse();
    }

    TEST_CASE("a channel tells of the handshake's bytes, too, even if it is turned away") {
        Federation federation;
        TcpHub hub(federation.hub_options());
        std::uint64_t written = 0;  // on the channel's thread, which has ended when it is read
        TcpChannelOptions options = federation.node(hub, "node");
        options.written = [&](std::uint64_t bytes) { written += bytes; };
        const std::size_t hello = encode_frame(Hello{.node = "node"}).size();
        {
            const auto channel = connect_tcp(options);
            channel->send(Hello{.node = "node"});
            await_hello(hub);
        }
        constexpr std::size_t kRecord = 22;          // of TLS 1.3, around each run of bytes
        constexpr std::size_t kCertificates = 1000;  // and a signature: hardly less
        CHECK(written > hello + 2 * kRecord + kCertificates);
        written = 0;
        options.aggregator.host = "localhost";  // which the certificate is not for
        options.tls->authority = federation.authority.node("node").certificate;
        CHECK_THROWS_AS(connect_tcp(options), IoError);
        CHECK(written > 100);
    }

    TEST_CASE("reload with a file that cannot be used changes nothing") {
        Federation federation;
        const TcpHubOptions options = federation.hub_options();
        TcpHub hub(options);
        HealthyNode healthy(hub, federation.node(hub, "healthy"), "healthy");
        write_text(options.tls->key, "no key");
        CHECK_THROWS_AS(hub.reload(), InputError);
        healthy.converse();
        HealthyNode newcomer(hub, federation.node(hub, "newcomer"), "newcomer");
        newcomer.converse();
    }

    TEST_CASE("unusable files are InputErrors that name them, at both ends") {
        Federation federation;
        TcpHub hub(federation.hub_options());
        for (const auto member : {&TlsFiles::certificate, &TlsFiles::key, &TlsFiles::authority, &TlsFiles::revoked}) {
            TlsFiles files = federation.authority.node("n");
            files.*member = federation.folder.path() / "absent.pem";
            CHECK_THROWS_WITH_AS(connect_tcp(Federation::node_options(hub, files)), doctest::Contains("absent.pem"),
                                 InputError);
        }
        TlsFiles mixed = federation.authority.node("n");
        mixed.key = federation.authority.node("m").key;
        CHECK_THROWS_AS(connect_tcp(Federation::node_options(hub, mixed)), InputError);
    }
}
