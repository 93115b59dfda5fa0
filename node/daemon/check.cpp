#include "node/daemon/check.hpp"

#include <fmt/chrono.h>

#include <atomic>
#include <set>
#include <thread>

#include "core/config.hpp"
#include "core/data/dataset.hpp"
#include "core/durable_file.hpp"
#include "core/error.hpp"
#include "node/daemon/certificate.hpp"
#include "node/daemon/state_folder.hpp"

namespace dither {
namespace {

/// An aggregator that refuses this node's certificate says so after the handshake (RFC 8446, 4.4.2.4).
constexpr std::chrono::milliseconds kRefusalTime{1000};

/// `look` returns what it found and throws what is wrong.
template <typename Look>
Finding find(std::string subject, Look&& look) {
    Finding finding{.subject = std::move(subject)};
    try {
        finding.text = look();
        finding.good = true;
    } catch (const std::exception& error) {
        finding.text = error.what();
    }
    return finding;
}

std::string text_of(WallTime time) {
    return fmt::format("{:%Y-%m-%d %H:%M:%S} UTC", fmt::gmtime(std::chrono::system_clock::to_time_t(time)));
}

/// The job says how many classes there are; a node may have samples of a few.
constexpr int kManyClasses = 1 << 20;

/// Everything that data can be.
std::vector<DataOptions> readings(const std::string& path) {
    std::vector<DataOptions> result;
    for (const Choice& format : data_format_choices())
        result.push_back({.format = std::string(format.name), .path = path, .classes = kManyClasses});
    for (const char* format : {"csv", "libsvm", "npy"})
        result.push_back({.format = format, .path = path, .task = "regression"});
    return result;
}

std::string describe(const DataOptions& options, const Dataset& data) {
    const std::set<std::int32_t> labels(data.labels().begin(), data.labels().end());
    const std::string targets =
        labels.empty() ? fmt::format("{} targets", data.outputs())
                       : fmt::format("{} classes within {} .. {}", labels.size(), *labels.begin(), *labels.rbegin());
    const auto samples = static_cast<std::int64_t>(data.size());
    return fmt::format("{} {}, {}", options.format, data.sample_shape().with_batch(samples).str(), targets);
}

}  // namespace

Finding check_data(const std::string& path) {
    return find("data", [&] {
        std::string problems;
        for (const DataOptions& options : readings(path))
            try {
                return describe(options, load_data(options, 1).train);
            } catch (const InputError& error) {
                problems += fmt::format("{}as {}: {}", problems.empty() ? "" : "; ", options.format, error.what());
            }
        throw InputError(problems);
    });
}

Finding check_state(const std::filesystem::path& folder) {
    return find("state", [&] {
        const StateFolder state(folder);
        const std::filesystem::path probe = state.path() / "check";
        write_durably(probe, "writable\n");
        std::filesystem::remove(probe);
        const auto space = std::filesystem::space(state.path());
        return fmt::format("{} is writable, {} MiB are free, node id: {}", folder.string(), space.available >> 20,
                           state.id().value_or("not made yet"));
    });
}

Finding check_certificate(const TlsFiles& files, const std::string& id, WallTime now) {
    return find("certificate", [&] {
        const std::string node = certified_node(files.certificate);
        const Certificate certificate = read_certificate(files.certificate);
        if (!key_fits(files.certificate, files.key))
            throw InputError(fmt::format("{} is not the key of {}", files.key.string(), files.certificate.string()));
        if (!id.empty() && id != node)
            throw InputError(fmt::format("it is for '{}', but this node is '{}'", node, id));
        if (now >= certificate.not_after)
            throw InputError(fmt::format("it has expired: {}", text_of(certificate.not_after)));
        const auto days = std::chrono::duration_cast<std::chrono::hours>(certificate.not_after - now).count() / 24;
        return fmt::format("for '{}', until {}: {} days", node, text_of(certificate.not_after), days);
    });
}

Finding check_clock(const TlsFiles* files, WallTime now) {
    return find("clock", [&] {
        if (files != nullptr)
            if (const auto begin = read_certificate(files->certificate).not_before; now < begin)
                throw InputError(
                    fmt::format("it is {}, before the certificate's begin, {}", text_of(now), text_of(begin)));
        return text_of(now);
    });
}

Finding check_aggregator(const TcpChannelOptions& options) {
    return find("aggregator", [&] {
        const auto channel = connect_tcp(options);
        std::atomic<bool> patient{true};
        const std::jthread timer([&](const std::stop_token& over) {
            const auto until = Clock::now() + kRefusalTime;
            while (!over.stop_requested() && Clock::now() < until)
                std::this_thread::sleep_for(std::chrono::milliseconds(20));
            patient = false;
            channel->stop();
        });
        const auto heard = channel->receive();
        if (heard && std::holds_alternative<Stop>(*heard))
            throw IoError(std::get<Stop>(*heard).reason);
        if (!heard && patient)
            throw IoError("it has closed the connection");
        return fmt::format("{} answers{}", to_string(options.aggregator),
                           options.tls ? ", and its certificate is valid" : "");
    });
}

std::vector<Finding> check_node(const NodeOptions& options, WallTime now) {
    const TlsFiles* tls = options.connection.tls ? &*options.connection.tls : nullptr;
    std::vector<Finding> findings{check_data(options.data), check_state(options.state)};
    if (tls != nullptr)
        findings.push_back(check_certificate(*tls, options.id, now));
    findings.push_back(check_clock(tls, now));
    findings.push_back(check_aggregator(options.connection));
    return findings;
}

}  // namespace dither
