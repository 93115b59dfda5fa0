// Journals as they lie on disk, and entries behind the length and the digest that their bytes demand. Whatever stood
// there before, what is appended now is read again.
#include "aggregator/journal.hpp"

#include "core/error.hpp"
#include "core/little_endian.hpp"
#include "core/sha256.hpp"
#include "tests/fuzz/target.hpp"
#include "tests/unit/aggregator/memory_storage.hpp"
#include "transport/frame.hpp"

#include <cstdint>
#include <string>
#include <utility>

namespace dither::fuzz {
namespace {

using test::MemoryStorage;

constexpr std::uint32_t kRound = 3;

Update sample_update(std::uint32_t client) {
    Update update{.round = kRound, .client = client, .payload = Bytes(9, std::byte{0x5a})};
    update.report = {.samples = 600, .steps = 19, .train_loss = 0.5F};
    update.report.layers.resize(2);
    return update;
}

/// How many entries the journal of kRound gives; it is positioned behind them then.
std::size_t begin(Journal& journal) {
    std::size_t entries = 0;
    journal.begin(kRound, Sha256{}, [&](const Journal::Entry& entry) {
        require(std::holds_alternative<Update>(entry.update), "an entry holds no update");
        ++entries;
    });
    return entries;
}

void append_update(Journal& journal, std::uint32_t client) {
    const PrecisionPlan plan = PrecisionPlan::uniform(2, 8);
    journal.append(encode_frame(sample_update(client)), plan, 100 + client);
    journal.sync();
}

std::string file_with(std::uint32_t entries) {
    MemoryStorage::State disk;
    MemoryStorage storage(disk);
    Journal journal(storage);
    begin(journal);
    for (std::uint32_t client = 0; client < entries; ++client)
        append_update(journal, client);
    return disk.files[Journal::kFile].bytes;
}

/// A valid journal whose only entry says `content`.
std::string file_around(std::span<const std::byte> content) {
    static const std::string header = [] {
        const std::string one = file_with(1);
        return one.substr(0, 2 * one.size() - file_with(2).size());
    }();
    Bytes entry(sizeof(std::uint64_t));
    store_little(std::uint64_t{content.size()}, entry.data());
    append(entry, content);
    return header + std::string(as_text(sealed(std::move(entry))));
}

void read(const std::string& file) {
    MemoryStorage::State disk{.files = {{Journal::kFile, {.bytes = file, .synced = file.size()}}}};
    MemoryStorage storage(disk);
    std::size_t found = 0;
    try {
        Journal journal(storage);
        found = begin(journal);
        append_update(journal, 7);
    } catch (const InputError&) {
        return;
    }
    Journal again(storage);
    const std::size_t now = begin(again);
    require(now == found + 1, "{} entries, then one more, are {}", found, now);
}

}  // namespace

std::vector<Bytes> seeds() {
    const std::string file = file_with(2);
    const std::size_t entry = file.size() - file_with(1).size();
    const std::string content =
        file.substr(file.size() - entry + sizeof(std::uint64_t), entry - sizeof(std::uint64_t) - sizeof(Sha256));
    return {to_bytes(file), to_bytes(content)};
}

void run(std::span<const std::byte> bytes) {
    read(std::string(as_text(bytes)));
    read(file_around(bytes));
}

}  // namespace dither::fuzz
