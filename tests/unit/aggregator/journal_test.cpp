#include "aggregator/journal.hpp"

#include "core/error.hpp"
#include "tests/unit/aggregator/memory_storage.hpp"
#include "transport/frame.hpp"

#include <limits>
#include <vector>

#include <doctest/doctest.h>
#include <rapidcheck.h>

using namespace dither;
using test::MemoryStorage;

namespace {

const Sha256 kBroadcast{1, 2, 3};

Update sample_update(std::uint32_t client, std::size_t payload_bytes = 20) {
    Update update{.round = 3, .client = client, .base = kBroadcast};
    update.report.samples = 7;
    update.report.steps = 2;
    update.report.layers.resize(2);
    update.payload.assign(payload_bytes, std::byte(client));
    return update;
}

PrecisionPlan sample_plan() {
    PrecisionPlan plan = PrecisionPlan::uniform(2, 8);
    plan.layers[1].uplink = 5;
    plan.layers[0].optimizer = kFullBits;
    return plan;
}

void append(Journal& journal, const Update& update) {
    journal.append(encode_frame(update), sample_plan(), 100 + update.client);
}

/// What a journal on this disk replays.
std::vector<Journal::Entry> entries_of(MemoryStorage::State& disk, std::uint32_t round = 3,
                                       const Sha256& broadcast = kBroadcast) {
    MemoryStorage storage(disk);
    std::vector<Journal::Entry> entries;
    Journal(storage).begin(round, broadcast, [&](const Journal::Entry& entry) { entries.push_back(entry); });
    return entries;
}

std::vector<std::uint32_t> clients_of(MemoryStorage::State& disk) {
    std::vector<std::uint32_t> clients;
    for (const Journal::Entry& entry : entries_of(disk))
        clients.push_back(std::get<Update>(entry.update).client);
    return clients;
}

void nothing(const Journal::Entry&) {}

/// A disk whose journal holds the updates of these clients, durably.
MemoryStorage::State disk_with(const std::vector<std::uint32_t>& clients) {
    MemoryStorage::State disk;
    MemoryStorage storage(disk);
    Journal journal(storage);
    journal.begin(3, kBroadcast, nothing);
    for (const std::uint32_t client : clients)
        append(journal, sample_update(client));
    journal.sync();
    return disk;
}

std::string& journal_on(MemoryStorage::State& disk) {
    return disk.files.at(Journal::kFile).bytes;
}

/// With its own digest behind it.
std::string sealed(std::string text) {
    const Sha256 digest = sha256(std::string_view(text));
    return text.append(reinterpret_cast<const char*>(digest.data()), digest.size());
}

}  // namespace

TEST_SUITE("aggregator/journal") {
    TEST_CASE("what was appended and synced comes back, in order, with its plan and its bytes") {
        MemoryStorage::State disk = disk_with({5, 2});
        const auto entries = entries_of(disk);
        REQUIRE(entries.size() == 2);
        CHECK(entries[0].update == Message(sample_update(5)));
        CHECK(entries[1].update == Message(sample_update(2)));
        CHECK(entries[0].plan == sample_plan());
        CHECK(entries[1].wire_bytes == 102);
    }

    TEST_CASE("its bytes are those of README.md") {
        MemoryStorage::State disk = disk_with({5});
        std::string header("DITHJNL1\1\0\0\0\3\0\0\0", 16);
        header.append(reinterpret_cast<const char*>(kBroadcast.data()), kBroadcast.size());
        const auto frame = encode_frame(sample_update(5));
        std::string entry;
        entry.push_back(static_cast<char>(8 + 4 + 10 + frame.size()));
        REQUIRE(8 + 4 + 10 + frame.size() < 512);
        entry.push_back(static_cast<char>((8 + 4 + 10 + frame.size()) >> 8U));
        entry.append(6, '\0');
        entry += std::string("\x69\0\0\0\0\0\0\0", 8);  // 105
        entry += std::string("\2\0\0\0", 4) + "\x8\x8\x20\x8\x8" + "\x8\x8\x8\x5\x8";
        entry.append(reinterpret_cast<const char*>(frame.data()), frame.size());
        CHECK(journal_on(disk) == sealed(header) + sealed(entry));
    }

    TEST_CASE("it goes on behind what it replayed") {
        MemoryStorage::State disk = disk_with({5});
        MemoryStorage storage(disk);
        Journal journal(storage);
        journal.begin(3, kBroadcast, nothing);
        append(journal, sample_update(9));
        journal.sync();
        CHECK(clients_of(disk) == std::vector<std::uint32_t>{5, 9});
    }

    TEST_CASE("entries of another round, or of another model, are discarded") {
        for (const std::uint32_t round : {2U, 4U}) {
            MemoryStorage::State disk = disk_with({5});
            CHECK(entries_of(disk, round).empty());
            CHECK(clients_of(disk).empty());
        }
        MemoryStorage::State disk = disk_with({5});
        CHECK(entries_of(disk, 3, Sha256{7}).empty());
        CHECK(journal_on(disk).empty());
    }

    TEST_CASE("wherever the file was torn, the whole entries before are kept and it can go on") {
        const std::size_t one = journal_on(*std::make_unique<MemoryStorage::State>(disk_with({5}))).size();
        const std::size_t all = journal_on(*std::make_unique<MemoryStorage::State>(disk_with({5, 2}))).size();
        for (std::size_t cut = 0; cut <= all; ++cut) {
            CAPTURE(cut);
            MemoryStorage::State disk = disk_with({5, 2});
            journal_on(disk).resize(cut);
            const std::size_t expected = cut == all ? 2 : cut >= one ? 1 : 0;
            CHECK(entries_of(disk).size() == expected);
            MemoryStorage storage(disk);
            Journal journal(storage);
            journal.begin(3, kBroadcast, nothing);
            append(journal, sample_update(8));
            journal.sync();
            CHECK(clients_of(disk).size() == expected + 1);
            CHECK(clients_of(disk).back() == 8);
        }
    }

    TEST_CASE("an end of zeros, or of anything else, is a torn one") {
        for (const std::string& end : {std::string(4096, '\0'), std::string(4096, 'x'), std::string(3, '\xff')}) {
            MemoryStorage::State disk = disk_with({5});
            journal_on(disk) += end;
            CHECK(clients_of(disk) == std::vector<std::uint32_t>{5});
        }
        MemoryStorage::State disk = disk_with({5});
        journal_on(disk).replace(0, 80, std::string(80, '\0'));
        CHECK(clients_of(disk).empty());
    }

    TEST_CASE("an altered byte ends what is replayed, and nothing that was not appended is") {
        CHECK(rc::check("", [] {
            MemoryStorage::State disk = disk_with({5, 2, 7});
            std::string& bytes = journal_on(disk);
            const auto at = static_cast<std::size_t>(*rc::gen::inRange<int>(0, static_cast<int>(bytes.size())));
            bytes[at] = static_cast<char>(bytes[at] ^ *rc::gen::inRange<int>(1, 256));
            const auto clients = clients_of(disk);
            const std::vector<std::uint32_t> all{5, 2, 7};
            RC_ASSERT(clients.size() < 3U);
            RC_ASSERT(std::equal(clients.begin(), clients.end(), all.begin()));
        }));
    }

    TEST_CASE("a full disk leaves it as it was, and it can be used on") {
        for (const std::size_t appends : {0U, 1U, 2U}) {  // an entry is written in several pieces
            CAPTURE(appends);
            MemoryStorage::State disk = disk_with({5});
            const std::string before = journal_on(disk);
            MemoryStorage storage(disk);
            Journal journal(storage);
            journal.begin(3, kBroadcast, nothing);
            disk.appends_left = appends;
            CHECK_THROWS_AS(append(journal, sample_update(2)), DiskFull);
            CHECK(journal_on(disk) == before);
            disk.appends_left = std::numeric_limits<std::size_t>::max();
            append(journal, sample_update(9));
            journal.sync();
            CHECK(clients_of(disk) == std::vector<std::uint32_t>{5, 9});
        }
    }

    TEST_CASE("a disk that is full from the start takes nothing, and a later entry is the first") {
        MemoryStorage::State disk;
        MemoryStorage storage(disk);
        Journal journal(storage);
        journal.begin(3, kBroadcast, nothing);
        disk.appends_left = 2;
        CHECK_THROWS_AS(append(journal, sample_update(2)), DiskFull);
        disk.appends_left = std::numeric_limits<std::size_t>::max();
        append(journal, sample_update(9));
        journal.sync();
        CHECK(clients_of(disk) == std::vector<std::uint32_t>{9});
    }

    TEST_CASE("many entries share a sync, and one without new entries costs none") {
        MemoryStorage::State disk = disk_with({});
        MemoryStorage storage(disk);
        Journal journal(storage);
        journal.begin(3, kBroadcast, nothing);
        const std::size_t before = disk.syncs;
        journal.sync();
        CHECK(disk.syncs == before);
        append(journal, sample_update(1));
        append(journal, sample_update(2));
        journal.sync();
        journal.sync();
        CHECK(disk.syncs == before + 1);
    }

    TEST_CASE("what was not synced may be lost, and what was is not") {
        MemoryStorage::State disk = disk_with({5});
        {
            MemoryStorage storage(disk);
            Journal journal(storage);
            journal.begin(3, kBroadcast, nothing);
            append(journal, sample_update(2));
        }
        MemoryStorage::lose_unsynced(disk);
        CHECK(clients_of(disk) == std::vector<std::uint32_t>{5});
    }

    TEST_CASE("a failed sync is an IoError") {
        MemoryStorage::State disk = disk_with({});
        MemoryStorage storage(disk);
        Journal journal(storage);
        journal.begin(3, kBroadcast, nothing);
        append(journal, sample_update(2));
        disk.syncs_left = 0;
        CHECK_THROWS_AS(journal.sync(), IoError);
    }

    TEST_CASE("a journal of another version is refused, not thrown away") {
        MemoryStorage::State disk = disk_with({5});
        std::string header = journal_on(disk).substr(0, 48);
        header[8] = 2;
        journal_on(disk) = sealed(header);
        CHECK_THROWS_WITH_AS(entries_of(disk), "journal.dither has version 2, expected 1", InputError);
        CHECK(journal_on(disk) == sealed(header));
    }

    TEST_CASE("a whole entry that says what none can is refused by its number") {
        const auto frame = encode_frame(sample_update(5));
        const std::string good(reinterpret_cast<const char*>(frame.data()), frame.size());
        const auto stop = encode_frame(Stop{"done"});
        const std::string other(reinterpret_cast<const char*>(stop.data()), stop.size());
        const std::string bytes(8, '\0');
        const std::string plan = std::string("\1\0\0\0", 4) + "\x8\x8\x8\x8\x8";
        const auto refusal_of = [](const std::string& content) -> std::string {
            MemoryStorage::State disk = disk_with({5});
            std::string entry;
            for (std::size_t byte = 0; byte < 8; ++byte)
                entry.push_back(static_cast<char>(content.size() >> (8 * byte)));
            journal_on(disk) += sealed(entry + content);
            try {
                return fmt::format("{} entries", entries_of(disk).size());
            } catch (const InputError& error) {
                return error.what();
            }
        };
        CHECK(refusal_of("") == "journal.dither: entry 2 cannot be one: no wire_bytes");
        CHECK(refusal_of(bytes) == "journal.dither: entry 2 cannot be one: no plan");
        CHECK(refusal_of(bytes + std::string("\xff\xff\xff\xff", 4)) ==
              "journal.dither: entry 2 cannot be one: a plan of 4294967295 layers in 0 bytes");
        CHECK(refusal_of(bytes + std::string("\1\0\0\0", 4) + "\x8\x8\x21\x8\x8" + good) ==
              "journal.dither: entry 2 cannot be one: a plan of 33 bits, expected 2 .. 16 or 32");
        CHECK(refusal_of(bytes + plan + other) == "journal.dither: entry 2 cannot be one: Stop, expected Update");
        CHECK(refusal_of(bytes + plan + good.substr(1)).starts_with("journal.dither: entry 2 cannot be one: "));
        CHECK(refusal_of(bytes + std::string("\2\0\0\0", 4) + "\x8\x8\x8\x8\x8\x8\x8\x8\x8\x8" + good) == "2 entries");
    }

    TEST_CASE("nothing is appended before a round begins") {
        MemoryStorage::State disk;
        MemoryStorage storage(disk);
        Journal journal(storage);
        CHECK_THROWS_AS(append(journal, sample_update(2)), PreconditionError);
    }
}
