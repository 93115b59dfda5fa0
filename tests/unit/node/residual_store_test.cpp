#include "node/residual_store.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <future>
#include <limits>
#include <vector>

#include "core/error.hpp"
#include "tests/unit/temporary_folder.hpp"

using namespace dither;
using test::read_text;
using test::TemporaryFolder;
using test::write_text;

namespace {

using Values = std::vector<float>;

Values loaded(const ResidualStore& store, std::uint32_t client, std::uint32_t counted, std::size_t parameters = 3) {
    Values values(parameters, std::numeric_limits<float>::quiet_NaN());
    store.load(client, counted, values);
    return values;
}

bool save(const ResidualStore& store, std::uint32_t client, std::uint32_t counted, const Values& before,
          std::uint32_t round, const Values& after, const Kept& found = {}) {
    return store.save(client, {.round = counted, .values = before}, {.round = round, .values = after}, found);
}

const Values kNothing{0, 0, 0};

}  // namespace

TEST_SUITE("node/residual_store") {
    TEST_CASE("the newest residual is adopted if its update was counted, and the one before it given back if not") {
        const TemporaryFolder folder;
        const ResidualStore store(folder.path() / "made" / "at need", 3);
        CHECK(loaded(store, 7, 0) == kNothing);
        CHECK_FALSE(std::filesystem::exists(folder.path() / "made"));
        save(store, 7, 0, kNothing, 2, {1, -2, 3e-20F});
        CHECK(loaded(store, 7, 2) == Values{1, -2, 3e-20F});
        CHECK(loaded(store, 7, 0) == kNothing);
        save(store, 7, 2, {1, -2, 3e-20F}, 5, {4, 5, -6});
        CHECK(loaded(store, 7, 2) == Values{1, -2, 3e-20F});
        CHECK(loaded(store, 7, 5) == Values{4, 5, -6});
    }

    TEST_CASE("another store on the same folder, in another process or after a restart, finds the same") {
        const TemporaryFolder folder;
        save(ResidualStore(folder.path(), 3), 1, 0, kNothing, 4, {1, 2, 3});
        CHECK(loaded(ResidualStore(folder.path(), 3), 1, 4) == Values{1, 2, 3});
    }

    TEST_CASE("a straggler does not replace what was saved of a later round after it began") {
        const TemporaryFolder folder;
        const ResidualStore store(folder.path(), 3);
        CHECK(store.kept(7) == Kept{});
        CHECK(save(store, 7, 0, kNothing, 3, {1, 2, 3}));
        const Kept found = store.kept(7);
        CHECK(found.round == 3);
        CHECK(save(store, 7, 3, {1, 2, 3}, 9, {4, 5, 6}, found));
        CHECK_FALSE(save(store, 7, 3, {1, 2, 3}, 8, {7, 8, 9}, found));
        CHECK(loaded(store, 7, 9) == Values{4, 5, 6});
        CHECK(loaded(store, 7, 3) == Values{1, 2, 3});
        CHECK(save(store, 7, 9, {4, 5, 6}, 10, {7, 8, 9}, found));
    }

    TEST_CASE("rounds that are run again after a restart, and another run's, are kept though later ones are there") {
        const TemporaryFolder folder;
        CHECK(save(ResidualStore(folder.path(), 3), 7, 50, {1, 2, 3}, 53, {4, 5, 6}));
        const ResidualStore again(folder.path(), 3);
        CHECK(save(again, 7, 50, {1, 2, 3}, 51, {7, 8, 9}, again.kept(7)));
        CHECK(loaded(again, 7, 51) == Values{7, 8, 9});
        CHECK(loaded(again, 7, 50) == Values{1, 2, 3});
    }

    TEST_CASE("threads that save one client at the same time leave a whole file of the latest round") {
        const TemporaryFolder folder;
        constexpr std::uint32_t kRounds = 60;
        const auto work = [&](std::uint32_t first) {
            const ResidualStore store(folder.path() / "clients", 3);
            for (std::uint32_t round = first; round <= kRounds; round += 2) {
                const auto value = static_cast<float>(round);
                save(store, 7, round - 1, kNothing, round, {value, value, value});
                loaded(store, 7, round);  // throws unless the file is whole
            }
        };
        auto odd = std::async(std::launch::async, work, 1);
        auto even = std::async(std::launch::async, work, 2);
        CHECK_NOTHROW(odd.get());
        CHECK_NOTHROW(even.get());
        const ResidualStore store(folder.path() / "clients", 3);
        CHECK(store.kept(7).round == kRounds);
        CHECK(loaded(store, 7, kRounds) == Values{kRounds, kRounds, kRounds});
        for (const auto& entry : std::filesystem::directory_iterator(folder.path() / "clients"))
            CHECK((entry.path().filename() == "client-7.residual" || entry.path().filename() == "residuals.lock"));
    }

    TEST_CASE("clients have residuals of their own") {
        const TemporaryFolder folder;
        const ResidualStore store(folder.path(), 3);
        save(store, 1, 0, kNothing, 4, {1, 2, 3});
        save(store, 11, 0, kNothing, 4, {7, 8, 9});
        CHECK(loaded(store, 1, 4) == Values{1, 2, 3});
        CHECK(loaded(store, 11, 4) == Values{7, 8, 9});
        CHECK(loaded(store, 12, 4) == kNothing);
    }

    TEST_CASE("a round of which nothing is kept leaves nothing: what an earlier run left is not taken up") {
        const TemporaryFolder folder;
        const ResidualStore store(folder.path(), 3);
        save(store, 1, 3, {1, 2, 3}, 4, {4, 5, 6});
        CHECK(loaded(store, 1, 2) == kNothing);
        CHECK(loaded(store, 1, 0) == kNothing);
    }

    TEST_CASE("a damaged file is an error that names it, whatever its damage") {
        const TemporaryFolder folder;
        const ResidualStore store(folder.path(), 3);
        save(store, 1, 3, {1, 2, 3}, 4, {4, 5, 6});
        const auto file = folder.path() / "client-1.residual";
        const std::string good = read_text(file);
        CHECK(good.size() == 24 + 2 * (4 + 3 * 4) + 32);
        for (std::size_t place = 0; place < good.size(); ++place) {
            std::string bad = good;
            bad[place] = static_cast<char>(bad[place] ^ 0x10);
            write_text(file, bad);
            CHECK_THROWS_WITH_AS(loaded(store, 1, 4), doctest::Contains("client-1.residual"), InputError);
        }
        for (const std::string& bad : {std::string(), good.substr(0, 30), good + '\0'}) {
            write_text(file, bad);
            CHECK_THROWS_WITH_AS(loaded(store, 1, 4), doctest::Contains("bytes, expected 88 for this model"),
                                 InputError);
        }
        CHECK(loaded(store, 1, 0) == kNothing);  // it is not read
    }

    TEST_CASE("a file of another client or of another model is refused") {
        const TemporaryFolder folder;
        save(ResidualStore(folder.path(), 3), 1, 3, {1, 2, 3}, 4, {4, 5, 6});
        CHECK_THROWS_AS(loaded(ResidualStore(folder.path(), 4), 1, 4, 4), InputError);
        std::filesystem::copy(folder.path() / "client-1.residual", folder.path() / "client-2.residual");
        CHECK_THROWS_WITH_AS(loaded(ResidualStore(folder.path(), 3), 2, 4), doctest::Contains("is of client 1, not 2"),
                             InputError);
    }

    TEST_CASE("a folder that cannot be written is an I/O error") {
        const TemporaryFolder folder;
        write_text(folder.path() / "occupied", "");
        CHECK_THROWS_AS(save(ResidualStore(folder.path() / "occupied", 3), 1, 0, kNothing, 1, kNothing), IoError);
    }
}
