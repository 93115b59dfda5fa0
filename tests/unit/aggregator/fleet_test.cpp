#include "aggregator/fleet.hpp"

#include "core/error.hpp"
#include "tests/unit/temporary_folder.hpp"

#include <algorithm>
#include <cmath>
#include <set>
#include <string>

#include <doctest/doctest.h>

using namespace dither;
using namespace dither::test;
using namespace std::chrono_literals;

namespace {

FederationOptions federation_of(std::uint32_t clients) {
    FederationOptions federation;
    federation.clients = clients;
    return federation;
}

/// A trace file, gone at the test's end.
class Trace {
public:
    explicit Trace(const std::string& text) { write_text(file_, text); }
    std::string path() const { return file_.string(); }

private:
    TemporaryFolder folder_;
    std::filesystem::path file_ = folder_.path() / "trace.csv";
};

std::string error_of(const FederationOptions& federation, std::uint32_t needed = 1) {
    try {
        Fleet(federation, 1, needed);
    } catch (const InputError& error) {
        return error.what();
    }
    return "";
}

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

/// How many of 100 clients are there.
int there(const Fleet& fleet, SimulatedTime time) {
    int count = 0;
    for (std::uint32_t client = 0; client < 100; ++client)
        count += fleet.is_available(client, time) ? 1 : 0;
    return count;
}

}  // namespace

TEST_SUITE("aggregator/fleet") {
    TEST_CASE("a task takes its download, its samples and its upload, one after the other") {
        FederationOptions federation = federation_of(10);
        federation.devices = {{.share = 1, .speed = 100, .uplink = 8, .downlink = 16}};
        const Fleet fleet(federation, 1, 1);
        CHECK(fleet.time_of(3, {.samples = 200, .download = 4e6, .upload = 1e6}) == 5s);
        CHECK(fleet.time_of(3, {.samples = 1, .download = 0, .upload = 0}) == 10ms);
        CHECK(fleet.is_available(3, 1000h));
        CHECK_FALSE(fleet.drops_out(3, 1));
    }

    TEST_CASE("a part for which a device has no rate takes no time, and no task is longer than 3 years") {
        FederationOptions federation = federation_of(10);
        federation.devices = {{.share = 1, .uplink = 1}};
        CHECK(Fleet(federation, 1, 1).time_of(0, {.samples = 1e9, .download = 1e9, .upload = 125'000}) == 1s);
        federation.devices = {{.share = 1, .speed = 1e-300, .spread = 1e6}};
        for (std::uint32_t client = 0; client < 10; ++client)
            CHECK(Fleet(federation, 1, 1).time_of(client, {.samples = 1e9}) <= Fleet::kLongest);
        CHECK_FALSE(Fleet::is_described(federation_of(10)));
        CHECK(Fleet::is_described(federation));
    }

    TEST_CASE("speeds are log-normal around the kind's, each client's always the same") {
        FederationOptions federation = federation_of(4000);
        federation.devices = {{.share = 1, .speed = 50, .spread = 1.5}};
        const Fleet fleet(federation, 7, 1);
        double sum = 0;
        double squares = 0;
        for (std::uint32_t client = 0; client < 4000; ++client) {
            const SimulatedTime time = fleet.time_of(client, {.samples = 5e6});
            CHECK(time == Fleet(federation, 7, 1).time_of(client, {.samples = 5e6}));
            const double log = std::log(std::chrono::duration<double>(time).count() / 1e5);
            sum += log;
            squares += log * log;
        }
        CHECK(std::abs(sum / 4000) < 4 * 1.5 / std::sqrt(4000));
        CHECK(squares / 4000 == doctest::Approx(2.25).epsilon(4 * std::sqrt(2.0 / 4000)));
    }

    TEST_CASE("a client drops out of its share of rounds, the same ones in every run") {
        FederationOptions federation = federation_of(10);
        federation.devices = {{.share = 1, .dropout = 0.25}};
        const Fleet fleet(federation, 1, 1);
        int dropped = 0;
        for (std::uint32_t round = 1; round <= 4000; ++round) {
            dropped += fleet.drops_out(3, round) ? 1 : 0;
            CHECK(fleet.drops_out(3, round) == Fleet(federation, 1, 1).drops_out(3, round));
        }
        CHECK(std::abs(dropped - 1000) < 4 * std::sqrt(4000 * 0.25 * 0.75));
    }

    TEST_CASE("traced devices are dealt to the clients in turn, in an order that the seed decides") {
        const Trace trace("speed,uplink,downlink,dropout\n1,0,0,0\n2,0,0,0\n\n 4 , 0, 0, 1\n");
        FederationOptions federation = federation_of(30);
        federation.trace.devices = trace.path();
        const Fleet fleet(federation, 1, 1);
        std::multiset<std::int64_t> times;
        for (std::uint32_t client = 0; client < 30; ++client) {
            const SimulatedTime time = fleet.time_of(client, {.samples = 4});
            times.insert(time / 1s);
            CHECK(time == fleet.time_of(client % 3, {.samples = 4}));
            CHECK(fleet.drops_out(client, 1) == (time == 1s));
        }
        CHECK(times.count(1) == 10);
        CHECK(times.count(2) == 10);
        CHECK(times.count(4) == 10);
    }

    TEST_CASE("devices come and go as the trace says, over and over, and who is not in it is always there") {
        const Trace trace("device,from,until\n0,10,20\n0,15,30\n2,0,5\n2,90,100\n");
        FederationOptions federation = federation_of(100);
        federation.trace.availability = trace.path();
        const Fleet fleet(federation, 1, 60);  // three devices for 100 clients: 34, 33 and 33
        const int always = there(fleet, 50s);
        for (const SimulatedTime period : {0s, 100s, 700s}) {
            const int night = there(fleet, period + 0s);
            CHECK(night > always);
            CHECK(there(fleet, period + 4'999'999us) == night);
            CHECK(there(fleet, period + 5s) == always);
            const int day = there(fleet, period + 10s);
            CHECK(day > always);
            CHECK(there(fleet, period + 29'999'999us) == day);
            CHECK(there(fleet, period + 30s) == always);
            CHECK(there(fleet, period + 90s) == night);
            CHECK(day + night - always == 100);
        }
    }

    TEST_CASE("a gathering is found in this period or the next one, and that many are really there") {
        const Trace trace("device,from,until\n0,10,20\n1,18,40.5\n2,35,50\n");
        FederationOptions federation = federation_of(100);
        federation.trace.availability = trace.path();
        const Fleet fleet(federation, 1, 60);
        const Availability& availability = fleet.availability();
        const auto first = [&](SimulatedTime time) { return availability.first_with(60, time); };
        CHECK(first(0s) == 18s);
        CHECK(first(19s) == 19s);
        CHECK(first(20s) == 35s);
        CHECK(first(40'500'000us) == 68s);
        CHECK(first(5'000'000s) == 5'000'018s);
        for (const SimulatedTime time : {0s, 20s, 41s, 123s})
            CHECK(there(fleet, first(time)) >= 60);
        CHECK(availability.next_change(0s) == 10s);
        CHECK(availability.next_change(40'500'000us) == 50s);
        CHECK(availability.next_change(50s) == 60s);
    }

    TEST_CASE("four billion clients cost no more than their traces") {
        FederationOptions federation = federation_of(4'000'000'000U);
        federation.devices = {{.share = 0.5, .speed = 10, .spread = 1}};
        const Fleet fleet(federation, 1, 1);
        std::set<SimulatedTime> times;
        for (std::uint32_t client = 3'999'999'900U; client < 4'000'000'000U; ++client)
            times.insert(fleet.time_of(client, {.samples = 10}));
        CHECK(times.size() > 30);
        CHECK(times.contains(0s));
    }

    TEST_CASE("a file that is no trace is refused by line and column") {
        FederationOptions federation = federation_of(100);
        const auto devices = [&](const std::string& text) {
            const Trace trace(text);
            federation.trace.devices = trace.path();
            const std::string error = error_of(federation);
            CHECK(contains(error, trace.path()));
            return error;
        };
        CHECK(contains(devices("speed,uplink,dropout\n1,2,3\n"), ":1: expected the header speed,uplink,downlink,"));
        CHECK(contains(devices("speed,uplink,downlink,dropout\n"), "at least one row"));
        CHECK(contains(devices("speed,uplink,downlink,dropout\n1,2,3\n"), ":2: expected 4 fields, found 3"));
        CHECK(contains(devices("speed,uplink,downlink,dropout\n1,2,3,0\n1,x,3,0\n"), ":3: column uplink"));
        CHECK(contains(devices("speed,uplink,downlink,dropout\n-1,2,3,0\n"), "column speed"));
        CHECK(contains(devices("speed,uplink,downlink,dropout\n1,nan,3,0\n"), "found \"nan\""));
        CHECK(contains(devices("speed,uplink,downlink,dropout\n1,2,3,1.5\n"), "within 0 .. 1"));
        federation.trace.devices = "/nowhere/devices.csv";
        CHECK(contains(error_of(federation), "there is none to read"));
    }

    TEST_CASE("an availability that cannot be is refused, and so is one of other devices or of too few") {
        FederationOptions federation = federation_of(100);
        const auto availability = [&](const std::string& text, std::uint32_t needed = 1) {
            const Trace trace(text);
            federation.trace.availability = trace.path();
            return error_of(federation, needed);
        };
        CHECK(contains(availability("device,from,until\n0,5,5\n"), ":2: column until: expected more than 5"));
        CHECK(contains(availability("device,from,until\n0.5,5,6\n"), ":2: column device: expected a whole number"));
        CHECK(contains(availability("device,from,until\n0,-1,6\n"), "column from"));
        CHECK(contains(availability("device,from,until\n0,0,1\n1,1,2\n", 51), "at most 50 clients are there"));
        CHECK(availability("device,from,until\n0,0,1\n1,1,2\n", 50).empty());
        const Trace devices("speed,uplink,downlink,dropout\n1,2,3,0\n");
        federation.trace.devices = devices.path();
        CHECK(contains(availability("device,from,until\n1,0,1\n"), "device 1 is not in"));
    }
}
