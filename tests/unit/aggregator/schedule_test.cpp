#include "aggregator/schedule.hpp"

#include "tests/unit/temporary_folder.hpp"

#include <algorithm>
#include <fstream>
#include <map>
#include <set>

#include <doctest/doctest.h>
#include <rapidcheck.h>

using namespace dither;
using namespace dither::test;
using namespace std::chrono_literals;

namespace {

using Clients = std::vector<std::uint32_t>;

/// Client k's task takes k + 1 seconds.
Job seconds_job(std::uint32_t clients, std::uint32_t cohort) {
    Job job;
    job.job.rounds = 100;
    job.federation.clients = clients;
    job.federation.cohort = cohort;
    job.federation.devices = {{.share = 1, .speed = 10}};
    return job;
}

std::uint64_t ten_times(std::uint32_t client) {
    return 10 * (client + 1);
}

LinkLoad no_load(std::uint32_t) {
    return {};
}

Clients lost_of(const Attendance& attendance) {
    Clients clients;
    for (const Absence& absence : attendance.lost)
        clients.push_back(absence.client);
    return clients;
}

}  // namespace

TEST_SUITE("aggregator/schedule") {
    TEST_CASE("an asynchronous round waits for whoever becomes available") {
        const TemporaryFolder folder;
        const auto trace = folder.path() / "availability.csv";
        std::ofstream(trace) << "device,from,until\n0,0,12\n1,10,20\n";
        Job job = seconds_job(4, 3);
        job.federation.async.concurrency = 4;
        job.federation.trace.availability = trace.string();
        const Attendance round = make_schedule(job, ten_times)->attend(1, 0s, no_load);
        CHECK(round.awaited.size() == 3);
        CHECK(round.ends > 10s);
        CHECK(round.ends < 15s);
    }

    TEST_CASE("the first of a cohort that are back in simulated time make the round") {
        Job job = seconds_job(4, 2);
        job.federation.over_select = 2;
        const auto schedule = make_schedule(job, ten_times);
        const Attendance attendance = schedule->attend(1, 5s, no_load);
        CHECK(attendance.asked == Clients{0, 1, 2, 3});
        CHECK(attendance.awaited == attendance.asked);
        CHECK(attendance.trained == Clients{0, 1});
        CHECK(lost_of(attendance) == Clients{2, 3});
        CHECK(attendance.begins == 5s);
        CHECK(attendance.ends == 7s);
    }

    TEST_CASE("a deadline is of simulated time, and is waited for where somebody misses it") {
        Job job = seconds_job(4, 3);
        job.federation.deadline = 2500ms;
        job.federation.over_select = 4.0 / 3;
        const Attendance attendance = make_schedule(job, ten_times)->attend(1, 0s, no_load);
        CHECK(attendance.trained == Clients{0, 1});
        CHECK(lost_of(attendance) == Clients{2, 3});
        CHECK(attendance.ends == 2500ms);
        CHECK(attendance.lost[0].reason == "it would have been back after 3 s");
    }

    TEST_CASE("epochs and bytes take their time, too") {
        Job job = seconds_job(2, 2);
        job.train.epochs = 3;
        job.federation.devices[0].downlink = 8;
        const auto load = [](std::uint32_t) { return LinkLoad{.download = 1e6, .upload = 1e9}; };
        CHECK(make_schedule(job, ten_times)->attend(1, 0s, load).ends == 3 * 2s + 1s);
    }

    TEST_CASE("who drops out does not train, and is not waited for") {
        Job job = seconds_job(50, 40);
        job.federation.over_select = 1.25;
        job.federation.devices[0].dropout = 0.5;
        const Attendance attendance = make_schedule(job, ten_times)->attend(1, 0s, no_load);
        CHECK(attendance.asked.size() == 50);
        CHECK(attendance.trained.size() + attendance.lost.size() == 50);
        CHECK(attendance.trained.size() > 10);
        CHECK(attendance.trained.size() < 40);
        CHECK(attendance.ends == SimulatedTime(1s) * (attendance.trained.back() + 1));
    }

    TEST_CASE("without devices, or with real nodes, a round asks whom it always asked and takes no time") {
        Job job = seconds_job(50, 10);
        const Clients usual = clients_of_round(job, 3);
        const auto real = make_schedule(job, nullptr);
        CHECK_FALSE(real->is_timed());
        CHECK(real->attend(3, 0s, no_load).trained == usual);
        CHECK(make_schedule(job, ten_times)->clients(3, 0s) == usual);
        job.federation.devices = {{.share = 1, .widths = {8}}};
        const auto timeless = make_schedule(job, ten_times);
        CHECK_FALSE(timeless->is_timed());
        const Attendance attendance = timeless->attend(3, 4s, no_load);
        CHECK(attendance.trained == usual);
        CHECK(attendance.lost.empty());
        CHECK(attendance.ends == 4s);
    }

    TEST_CASE("a round begins when as many as it asks are available, and asks only those") {
        const TemporaryFolder folder;
        write_text(folder.path() / "there.csv", "device,from,until\n0,10,20\n1,15,30\n");
        Job job = seconds_job(10, 6);
        job.federation.trace.availability = (folder.path() / "there.csv").string();
        const auto schedule = make_schedule(job, ten_times);
        CHECK(schedule->attend(1, 0s, no_load).begins == 15s);
        job.federation.cohort = 5;
        const auto smaller = make_schedule(job, ten_times);
        const Attendance early = smaller->attend(1, 0s, no_load);
        const Attendance late = smaller->attend(1, 21s, no_load);
        CHECK(early.begins == 10s);
        CHECK(late.begins == 21s);
        Clients all = early.asked;
        all.insert(all.end(), late.asked.begin(), late.asked.end());
        std::ranges::sort(all);
        CHECK(all == Clients{0, 1, 2, 3, 4, 5, 6, 7, 8, 9});
    }

    // Three clients that train all the time, for 1, 2 and 3 seconds; two updates make a round.
    TEST_CASE("asynchronous rounds end with every buffer of updates, in the order of simulated time") {
        Job job = seconds_job(3, 2);
        job.federation.async.concurrency = 3;
        const auto schedule = make_schedule(job, ten_times);
        const Attendance first = schedule->attend(1, 0s, no_load);
        CHECK(first.asked == Clients{0, 1, 2});
        CHECK(first.trained == Clients{0, 1, 2});
        CHECK(first.awaited == Clients{0, 1});
        CHECK(first.ends == 2s);
        const Attendance second = schedule->attend(2, 2s, no_load);  // 2, from round 1, is back with 0, from this one
        CHECK(second.asked == Clients{0, 1});
        CHECK(second.awaited == Clients{0, 2});
        CHECK(second.lost.empty());
        CHECK(second.ends == 3s);
        const Attendance third = schedule->attend(3, 3s, no_load);
        CHECK(third.asked == Clients{0, 2});
        CHECK(third.awaited == Clients{0, 1});
        CHECK(third.ends == 4s);
    }

    TEST_CASE("an update whose model is too old is given up, and so is one that misses the deadline") {
        Job job = seconds_job(3, 2);
        job.federation.async = {.concurrency = 3, .staleness = 0};
        const auto strict = make_schedule(job, ten_times);
        strict->attend(1, 0s, no_load);
        const Attendance second = strict->attend(2, 2s, no_load);
        CHECK(second.awaited == Clients{0, 1, 2});
        CHECK(lost_of(second) == Clients{2});
        CHECK(second.lost[0].reason == "it started from the model 1 rounds before");
        CHECK(second.ends == 4s);

        job.federation.deadline = 2500ms;
        const auto hurried = make_schedule(job, ten_times);
        const Attendance first = hurried->attend(1, 0s, no_load);
        CHECK(first.asked == Clients{0, 1, 2});
        CHECK(first.trained == Clients{0, 1});
        CHECK(lost_of(hurried->attend(2, 2s, no_load)) == Clients{2});
    }

    TEST_CASE("without devices asynchronous tasks end in the order in which they began") {
        Job job = seconds_job(8, 2);
        job.federation.devices.clear();
        job.federation.async.concurrency = 5;
        const auto schedule = make_schedule(job, ten_times);
        CHECK(schedule->is_timed());
        std::map<std::uint32_t, std::uint32_t> begun;
        for (std::uint32_t round = 1; round <= 20; ++round) {
            const Attendance attendance = schedule->attend(round, 0s, no_load);
            CHECK(attendance.ends == 0s);
            for (const std::uint32_t client : attendance.asked)
                begun[client] = round;
            for (const std::uint32_t client : attendance.awaited)
                CHECK(round - begun.at(client) <= 2);
        }
    }

    TEST_CASE("the last round trains only those that it counts") {
        Job job = seconds_job(3, 2);
        job.job.rounds = 1;
        job.federation.async.concurrency = 3;
        CHECK(make_schedule(job, ten_times)->attend(1, 0s, no_load).trained == Clients{0, 1});
    }

    TEST_CASE("however devices drop out, an asynchronous round awaits a cohort, each client once, and time goes on") {
        CHECK(rc::check([] {
            const auto clients = *rc::gen::inRange<std::uint32_t>(1, 40);
            Job job = seconds_job(clients, *rc::gen::inRange<std::uint32_t>(1, clients + 1));
            job.job.seed = *rc::gen::arbitrary<std::uint32_t>();
            job.federation.async.concurrency = *rc::gen::inRange<std::uint32_t>(1, clients + 1);
            job.federation.async.staleness = *rc::gen::inRange<std::uint32_t>(0, 4);
            job.federation.devices = {{.share = 0.8, .speed = 10, .spread = 2, .dropout = 0.3}};
            const auto schedule = make_schedule(job, ten_times);
            const auto again = make_schedule(job, ten_times);
            SimulatedTime now = 0s;
            std::set<std::uint32_t> in_flight;
            for (std::uint32_t round = 1; round <= 20; ++round) {
                const Attendance attendance = schedule->attend(round, now, no_load);
                const Attendance same = again->attend(round, now, no_load);
                RC_ASSERT(attendance.awaited == same.awaited && attendance.asked == same.asked);
                for (const std::uint32_t client : attendance.asked)
                    RC_ASSERT(in_flight.insert(client).second);
                RC_ASSERT(attendance.awaited.size() >= job.federation.cohort);
                RC_ASSERT(attendance.awaited.size() - attendance.lost.size() <= job.federation.cohort);
                for (const std::uint32_t client : attendance.awaited)
                    RC_ASSERT(in_flight.erase(client) == 1);
                RC_ASSERT(in_flight.size() <= job.federation.async.concurrency);
                RC_ASSERT(attendance.ends >= now);
                now = attendance.ends;
            }
        }));
    }
}
