#include "aggregator/checkpoint.hpp"

#include "core/error.hpp"
#include "core/rng.hpp"
#include "tests/unit/aggregator/fixtures.hpp"

#include <limits>

#include <doctest/doctest.h>
#include <rapidcheck.h>

using namespace dither;
using test::read_text;
using test::small_schema;
using test::TemporaryFolder;
using test::write_text;

namespace {

using Bytes = std::vector<std::byte>;

Checkpoint sample_checkpoint() {
    Checkpoint checkpoint;
    checkpoint.job = "[job]\nseed = 1\n";
    checkpoint.job_identity = sha256(std::string_view(checkpoint.job));
    checkpoint.round = 7;
    checkpoint.schema = small_schema();
    checkpoint.model = {1, -2, 3e-20F, 4, 5, -0.0F, 7, 8};
    checkpoint.plan = PrecisionPlan::uniform(2, 8);
    checkpoint.plan.layers[1].uplink = 5;
    checkpoint.evaluated_plan = PrecisionPlan::uniform(2, 4);
    checkpoint.abandoned_in_a_row = 2;
    checkpoint.controller = {1.5, -2, 1e300};
    checkpoint.strategy = {0.5F};
    checkpoint.totals.rounds = 7;
    checkpoint.totals.bytes_up = std::uint64_t{1} << 40;
    checkpoint.totals.seconds = 1.25;
    checkpoint.totals.bit_ops.training = 3e12;
    checkpoint.totals.bit_ops.probe = 5e9;
    checkpoint.totals.final_accuracy = 0.75;
    checkpoint.log_line = R"({"round":7})";
    return checkpoint;
}

std::size_t files_in(const std::filesystem::path& folder) {
    return static_cast<std::size_t>(
        std::distance(std::filesystem::directory_iterator(folder), std::filesystem::directory_iterator()));
}

/// A file around any body.
std::string sealed(const std::string& body, char version = kCheckpointVersion) {
    std::string bytes("DITHMDL1");
    bytes.append({version, 0, 0, 0});
    for (std::size_t byte = 0; byte < 8; ++byte)
        bytes.push_back(static_cast<char>(body.size() >> (8 * byte)));
    bytes += body;
    const Sha256 digest = sha256(std::string_view(bytes));
    return bytes.append(reinterpret_cast<const char*>(digest.data()), digest.size());
}

/// As `file` has it.
std::string body_of(const std::filesystem::path& file) {
    const std::string bytes = read_text(file);
    return bytes.substr(20, bytes.size() - 52);
}

/// What version 3 ends with where nothing is averaged: an empty list (u64), no rounds (u32), two absent numbers.
const std::string kNothingAveraged = std::string(12, '\0') + std::string(2, '\1');
/// What version 4 ends with: the inputs of the layers, which are 0 here (u64, f64 each), five totals, the round of the
/// model, and nothing to go back to (u32, four u64, u32).
const std::string kNothingGood =
    std::string("\2\0\0\0\0\0\0\0", 8) + std::string(2 * 8 + 5 * 8 + 4 + 4 + 4 * 8 + 4, '\0');
/// What version 5 ends with: the history's reach (u32), no parts, no clients, no residual, no whole model (u64 each).
const std::string kNothingBroadcast = std::string("\1\0\0\0", 4) + std::string(4 * 8, '\0');
/// What version 6 ends with: no typical norm, no simulated seconds (f64 each), no control step of any part, no errors
/// and no scores, no simulated devices and no client that was counted (two u64 each).
std::string nothing_controlled(std::size_t parts) {
    return std::string(2 * 8, '\0') + std::string(parts + 2, '\1') + std::string(4 * 8, '\0');
}
const std::string kSinceVersion5 = kNothingBroadcast + nothing_controlled(0);
const std::string kPlainEnd = kNothingAveraged + kNothingGood + kSinceVersion5;

/// Its body without the end, which must be there.
std::string without(const std::string& body, const std::string& end) {
    REQUIRE(body.ends_with(end));
    return body.substr(0, body.size() - end.size());
}

std::string version_2_of(const std::filesystem::path& file) {
    return sealed(without(body_of(file), kPlainEnd), 2);
}

/// Without untrained tensors: it ends before version 2's empty list, a u64.
std::string version_1_of(const std::filesystem::path& file) {
    return sealed(without(body_of(file), std::string(8, '\0') + kPlainEnd), 1);
}

Checkpoint averaged_checkpoint() {
    Checkpoint checkpoint = sample_checkpoint();
    checkpoint.averaged = {0.5F, -1, 2, 3, 4, 5, 6, 7};
    checkpoint.averaged_rounds = 3;
    checkpoint.totals.swa_accuracy = 0.875;
    checkpoint.totals.swa_loss = 0.25;
    return checkpoint;
}

Checkpoint guarded_checkpoint() {
    Checkpoint checkpoint = sample_checkpoint();
    std::vector<LayerSpec> layers(small_schema().layers().begin(), small_schema().layers().end());
    layers[0].inputs = 40;
    layers[1].inputs = 5;
    checkpoint.schema = Schema(std::move(layers));
    checkpoint.totals.bit_ops.bops = 1e13;
    checkpoint.totals.bit_ops.bops_fp32 = 4e14;
    checkpoint.totals.train_seconds = 2.5;
    checkpoint.totals.probe_seconds = 0.125;
    checkpoint.totals.plan_changes = 12;
    checkpoint.model_round = 6;
    checkpoint.good = {.round = 5,
                       .model = {1, 2, 3, 4, 5, 6, 7, 8},
                       .strategy = {0.25F},
                       .links = {0.5, -1},
                       .averaged = {8, 7, 6, 5, 4, 3, 2, 1},
                       .averaged_rounds = 2};
    return checkpoint;
}

Checkpoint broadcast_checkpoint() {
    Checkpoint checkpoint = guarded_checkpoint();
    checkpoint.totals.whole_models = 3;
    checkpoint.history.reach = 6;
    checkpoint.history.parts = {{.round = 7}, {.round = 8, .steps = {0.5F, 2}, .payload = Bytes(3, std::byte{0xab})}};
    checkpoint.counted = {{1, 2}, {7, 3}};
    checkpoint.residual = {0.5F, 0, 0, 0, 0, 0, 0, -1};
    return checkpoint;
}

Checkpoint controlled_checkpoint() {
    Checkpoint checkpoint = broadcast_checkpoint();
    checkpoint.typical_norm = 0.75;
    checkpoint.totals.simulated_seconds = 3.5;
    checkpoint.history.parts[1].control = ControlStep{.keep = 0.875F, .gain = -2};
    checkpoint.totals.final_errors = RegressionErrors{.rmse = 2, .mae = 1.5, .r2 = 0.25};
    checkpoint.totals.clients = ClientScores{.count = 2,
                                             .samples = 20,
                                             .accuracy = Spread{.mean = 0.5, .weighted_mean = 0.25, .max = 1},
                                             .personal_accuracy = Spread{.p10 = 0.5, .p50 = 0.625, .p90 = 0.75},
                                             .loss = {.mean = 3, .min = 2},
                                             .personal_loss = {.mean = 1}};
    checkpoint.device_bytes = {{0, 3}, {1000, 70'000'000'000}};
    return checkpoint;
}

/// As it is read from a file of an earlier version, which does not say which round made its model.
Checkpoint read_as(Checkpoint checkpoint, std::uint32_t version) {
    checkpoint.version = version;
    checkpoint.model_round = checkpoint.round;
    return checkpoint;
}

std::string list_of(const std::vector<std::uint32_t>& values) {
    std::string bytes;
    bytes.push_back(static_cast<char>(values.size()));
    bytes.append(7, '\0');
    for (const std::uint32_t value : values)
        bytes.append({static_cast<char>(value), 0, 0, 0});
    return bytes;
}

/// fc1: weight; bn1: weight, and two tensors that are not trained.
Schema normed_schema() {
    LayerSpec norm{.name = "bn1", .offset = 5, .count = 3, .tensors = {}, .macs = 0};
    norm.tensors = {{.name = "weight", .shape = {1}, .offset = 5},
                    {.name = "mean", .shape = {1}, .offset = 6, .trained = false},
                    {.name = "variance", .shape = {1}, .offset = 7, .trained = false}};
    return Schema({small_schema().layers()[0], norm});
}

std::string refusal_of(const std::filesystem::path& file) {
    try {
        load_checkpoint(file);
    } catch (const InputError& e) {
        return e.what();
    }
    return "";
}

}  // namespace

TEST_SUITE("aggregator/checkpoint") {
    TEST_CASE("a checkpoint comes back as it was saved, and nothing else is left in the folder") {
        const TemporaryFolder folder;
        const auto file = folder.path() / "model.dither";
        save_checkpoint(file, sample_checkpoint());
        CHECK(load_checkpoint(file) == sample_checkpoint());
        CHECK(files_in(folder.path()) == 1);
        CHECK(read_text(file).starts_with(std::string_view("DITHMDL1\x06\0\0\0", 12)));
    }

    TEST_CASE("a checkpoint of many parts comes back, and one whose last part was altered or cut off is refused") {
        constexpr std::size_t kParameters = 700'000;
        Checkpoint checkpoint = sample_checkpoint();
        checkpoint.schema =
            Schema({{.name = "fc1", .count = kParameters, .tensors = {{"weight", Shape{kParameters}, 0}}}});
        checkpoint.plan = checkpoint.evaluated_plan = PrecisionPlan::uniform(1, 8);
        checkpoint.model.resize(kParameters);
        Stream({.seed = 5, .purpose = Purpose::test}).fill_normal(checkpoint.model);
        std::string bytes;
        write_checkpoint(checkpoint, [&](std::string_view more) { bytes += more; });
        CHECK(read_checkpoint(bytes, "model.dither") == checkpoint);
        CHECK_THROWS_AS(read_checkpoint(bytes.substr(0, bytes.size() - 1), "model.dither"), InputError);
        bytes[bytes.size() - 40] ^= 1;
        CHECK_THROWS_AS(read_checkpoint(bytes, "model.dither"), InputError);
    }

    TEST_CASE("version 1 keeps its bytes: old checkpoints stay readable") {
        const TemporaryFolder folder;
        const auto file = folder.path() / "model.dither";
        save_checkpoint(file, sample_checkpoint());
        const std::string bytes = version_1_of(file);
        CHECK(bytes.size() == 574);
        CHECK(to_hex(sha256(std::string_view(bytes))) ==
              "4764ee7694e105d56cf86d9d46cf5791a364d4019585cbf65bdbc0c34411de69");
        write_text(file, bytes);
        CHECK(load_checkpoint(file) == read_as(sample_checkpoint(), 1));
    }

    TEST_CASE("version 2 keeps its bytes: old checkpoints stay readable") {
        const TemporaryFolder folder;
        const auto file = folder.path() / "model.dither";
        Checkpoint checkpoint = sample_checkpoint();
        checkpoint.schema = normed_schema();
        save_checkpoint(file, checkpoint);
        const std::string bytes = version_2_of(file);
        CHECK(bytes.size() == 652);
        CHECK(to_hex(sha256(std::string_view(bytes))) ==
              "a1ba008f4f79ef8f764601735c297466992bebcba5bdae3420a6c37c40c996e9");
        write_text(file, bytes);
        CHECK(load_checkpoint(file) == read_as(checkpoint, 2));
    }

    TEST_CASE("version 3 keeps its bytes: old checkpoints stay readable") {
        const TemporaryFolder folder;
        const auto file = folder.path() / "model.dither";
        save_checkpoint(file, averaged_checkpoint());
        const std::string bytes = sealed(without(body_of(file), kNothingGood + kSinceVersion5), 3);
        write_text(file, bytes);
        CHECK(load_checkpoint(file) == read_as(averaged_checkpoint(), 3));
        CHECK(bytes.size() == 574 + 8 + 8 + 8 * 4 + 4 + 2 * 9);
        CHECK(to_hex(sha256(std::string_view(bytes))) ==
              "9f3678656d0e3e10c8302d43d1dbe9876e3c2ec99f592cbd470608982b707d44");
    }

    TEST_CASE("version 4 keeps its bytes: old checkpoints stay readable") {
        const TemporaryFolder folder;
        const auto file = folder.path() / "model.dither";
        save_checkpoint(file, guarded_checkpoint());
        const std::string bytes = sealed(without(body_of(file), kSinceVersion5), 4);
        write_text(file, bytes);
        Checkpoint expected = guarded_checkpoint();
        expected.version = 4;
        CHECK(load_checkpoint(file) == expected);
        const std::size_t good = 4 + (8 + 8 * 4) + (8 + 4) + (8 + 2 * 8) + (8 + 8 * 4) + 4;
        CHECK(bytes.size() == 574 + 8 + 14 + 8 + 2 * 8 + 5 * 8 + 4 + good);
        CHECK(to_hex(sha256(std::string_view(bytes))) ==
              "572ce3a0a5b6b6f28c0f31c113a5f92cca59a6f22b1b3ec79fdbe4f5417affb3");
    }

    TEST_CASE("version 5 keeps its bytes: old checkpoints stay readable") {
        const TemporaryFolder folder;
        const auto file = folder.path() / "model.dither";
        Checkpoint expected = broadcast_checkpoint();
        expected.counted = {};  // it had one number a client, of no use without resuming
        save_checkpoint(file, expected);
        std::string body = without(body_of(file), nothing_controlled(2));
        const std::size_t behind = (8 + 8 * 4) + 8;  // the residual, whole models
        body.replace(body.size() - behind - 8, 8, list_of({0, 7, 3, 0}));
        const std::string bytes = sealed(body, 5);
        write_text(file, bytes);
        expected.version = 5;
        CHECK(load_checkpoint(file) == expected);
        const std::size_t parts = 2 * (4 + 8 + 8) + 2 * 4 + 3;
        CHECK(bytes.size() == 824 + parts + 4 * 4 + 8 * 4);
        CHECK(to_hex(sha256(std::string_view(bytes))) ==
              "d86b4e53e65ae3d23ed5d883bfcf22304173e07dd909e76eb6abc7dc0ad6a7ea");
    }

    TEST_CASE("version 6 keeps its bytes, and all that it appends comes back") {
        const TemporaryFolder folder;
        const auto file = folder.path() / "model.dither";
        save_checkpoint(file, controlled_checkpoint());
        CHECK(load_checkpoint(file) == controlled_checkpoint());
        const std::string bytes = read_text(file);
        const std::size_t version_5 = 824 + 2 * (4 + 8 + 8) + 2 * 4 + 3 + 8 * 4;  // of no clients
        const std::size_t errors = 1 + 2 * 8 + 1 + 8;
        const std::size_t scores = 1 + 4 + 8 + 2 * (1 + 7 * 8) + 2 * 7 * 8;
        const std::size_t devices = (8 + 2 * 4) + (8 + 2 * 8);
        const std::size_t counted = 2 * (8 + 2 * 4);
        CHECK(bytes.size() == version_5 + 2 * 8 + 1 + (1 + 2 * 4) + errors + scores + devices + counted);
        CHECK(to_hex(sha256(std::string_view(bytes))) ==
              "ed4817b3679b2bdac8ab33c72d00f745ae681388c3d6e8048b9eccd1a30880e7");
    }

    TEST_CASE("changes that do not follow each other, or lie ahead, are no state of a run") {
        const TemporaryFolder folder;
        const auto file = folder.path() / "model.dither";
        const auto refused = [&](auto&& spoil) {
            Checkpoint checkpoint = broadcast_checkpoint();
            spoil(checkpoint);
            CHECK_THROWS_AS(save_checkpoint(file, checkpoint), FormatError);
        };
        refused([](Checkpoint& c) { c.history.parts[1].round = 9; });
        refused([](Checkpoint& c) { c.history.reach = 5; });
        refused([](Checkpoint& c) { c.history.parts.push_back({.round = 9}); });
        refused([](Checkpoint& c) { c.counted.put({{2, 8}}); });
        refused([](Checkpoint& c) { c.residual.pop_back(); });
        refused([](Checkpoint& c) { c.residual[0] = std::numeric_limits<float>::infinity(); });
    }

    TEST_CASE("tensors that are not trained come back as such") {
        const TemporaryFolder folder;
        const auto file = folder.path() / "model.dither";
        Checkpoint checkpoint = sample_checkpoint();
        checkpoint.schema = normed_schema();
        save_checkpoint(file, checkpoint);
        CHECK(load_checkpoint(file) == checkpoint);
        CHECK(load_checkpoint(file).schema.layers()[1].trained_count() == 1);
    }

    TEST_CASE("untrained tensors that do not ascend, or do not exist, or stand before trained ones are refused") {
        const TemporaryFolder folder;
        const auto file = folder.path() / "model.dither";
        Checkpoint checkpoint = sample_checkpoint();
        checkpoint.schema = normed_schema();
        save_checkpoint(file, checkpoint);
        std::string body = body_of(file);
        body = without(body, list_of({2, 3}) + kPlainEnd);
        const std::string unreadable = "model.dither has a body that cannot be read: ";
        for (const auto& ordinals : {std::vector<std::uint32_t>{3, 2}, {3, 3}}) {
            write_text(file, sealed(body + list_of(ordinals) + kPlainEnd));
            CHECK(refusal_of(file).find(unreadable + "untrained tensors that do not ascend") != std::string::npos);
        }
        for (const auto& ordinals : {std::vector<std::uint32_t>{4}, {2, 3, 4}}) {
            write_text(file, sealed(body + list_of(ordinals) + kPlainEnd));
            CHECK(refusal_of(file).find(unreadable + "an untrained tensor 4") != std::string::npos);
        }
        write_text(file, sealed(body + list_of({1, 2}) + kPlainEnd));
        CHECK(refusal_of(file).find(unreadable + "layer bn1 has a trained tensor") != std::string::npos);
        write_text(file, sealed(body + list_of({3}) + kPlainEnd));
        CHECK(load_checkpoint(file).schema.layers()[1].trained_count() == 2);
    }

    TEST_CASE("saving again replaces the old checkpoint") {
        const TemporaryFolder folder;
        const auto file = folder.path() / "model.dither";
        save_checkpoint(file, sample_checkpoint());
        Checkpoint next = sample_checkpoint();
        next.round = 8;
        next.totals.final_accuracy.reset();
        save_checkpoint(file, next);
        CHECK(load_checkpoint(file) == next);
    }

    TEST_CASE("a checkpoint that is missing, truncated, extended or no checkpoint is refused by name") {
        const TemporaryFolder folder;
        const auto file = folder.path() / "model.dither";
        CHECK(refusal_of(file).find("model.dither: cannot open") != std::string::npos);
        save_checkpoint(file, sample_checkpoint());
        const std::string good = read_text(file);
        for (const std::size_t kept :
             {std::size_t{0}, std::size_t{4}, std::size_t{12}, std::size_t{40}, good.size() / 2, good.size() - 1}) {
            CAPTURE(kept);
            write_text(file, good.substr(0, kept));
            CHECK(refusal_of(file).find("model.dither") != std::string::npos);
        }
        write_text(file, good + "x");
        CHECK(refusal_of(file).find("truncated or extended") != std::string::npos);
        write_text(file, std::string(200, 'x'));
        CHECK(refusal_of(file).find("is not a Dither checkpoint") != std::string::npos);
    }

    TEST_CASE("a checkpoint of another version is refused by its number") {
        const TemporaryFolder folder;
        const auto file = folder.path() / "model.dither";
        save_checkpoint(file, sample_checkpoint());
        const std::string good = read_text(file);
        for (const char version : {'\0', '\x07', '\x09'}) {
            std::string bytes = good;
            bytes[8] = version;
            write_text(file, bytes);
            CHECK(refusal_of(file).find(fmt::format("has version {}, expected 1 .. 6", int{version})) !=
                  std::string::npos);
        }
    }

    TEST_CASE("a body that its own hash vouches for is still refused by name where it is no checkpoint") {
        const TemporaryFolder folder;
        const auto file = folder.path() / "model.dither";
        save_checkpoint(file, sample_checkpoint());
        const std::string body = body_of(file);
        write_text(file, sealed(body + "x"));
        CHECK(refusal_of(file).find("model.dither has a body that goes on after its last field") != std::string::npos);
        for (std::size_t kept = 0; kept < body.size(); kept += 7) {
            CAPTURE(kept);
            write_text(file, sealed(body.substr(0, kept)));
            CHECK(refusal_of(file).find("model.dither has a body that cannot be read") != std::string::npos);
        }
        std::string gap = body;
        gap[body.find("fc2") + 3] = 6;  // the layer's offset, which must be 5
        write_text(file, sealed(gap));
        CHECK(refusal_of(file).find("model.dither has a body that cannot be read") != std::string::npos);
    }

    TEST_CASE("no altered byte goes unnoticed") {
        const TemporaryFolder folder;
        const auto file = folder.path() / "model.dither";
        save_checkpoint(file, sample_checkpoint());
        const std::string good = read_text(file);
        CHECK(rc::check([&] {
            std::string bytes = good;
            const auto at = static_cast<std::size_t>(*rc::gen::inRange(0, static_cast<int>(good.size())));
            bytes[at] = static_cast<char>(bytes[at] ^ *rc::gen::inRange(1, 256));
            write_text(file, bytes);
            RC_ASSERT(!refusal_of(file).empty());
        }));
    }

    TEST_CASE("a state that does not fit its schema is never saved") {
        const TemporaryFolder folder;
        const auto file = folder.path() / "model.dither";
        Checkpoint checkpoint = sample_checkpoint();
        checkpoint.model.pop_back();
        CHECK_THROWS_AS(save_checkpoint(file, checkpoint), FormatError);
        checkpoint = sample_checkpoint();
        checkpoint.plan.layers.pop_back();
        CHECK_THROWS_AS(save_checkpoint(file, checkpoint), FormatError);
        checkpoint = sample_checkpoint();
        checkpoint.evaluated_plan.layers[0].forward = 17;
        CHECK_THROWS_AS(save_checkpoint(file, checkpoint), FormatError);
        checkpoint = sample_checkpoint();
        checkpoint.model[2] = std::numeric_limits<float>::quiet_NaN();
        CHECK_THROWS_AS(save_checkpoint(file, checkpoint), FormatError);
        checkpoint = averaged_checkpoint();
        checkpoint.averaged.pop_back();
        CHECK_THROWS_AS(save_checkpoint(file, checkpoint), FormatError);
        checkpoint = averaged_checkpoint();
        checkpoint.averaged_rounds = 0;
        CHECK_THROWS_AS(save_checkpoint(file, checkpoint), FormatError);
        checkpoint = averaged_checkpoint();
        checkpoint.averaged[2] = std::numeric_limits<float>::infinity();
        CHECK_THROWS_AS(save_checkpoint(file, checkpoint), FormatError);
        checkpoint = guarded_checkpoint();
        checkpoint.good.model.pop_back();
        CHECK_THROWS_AS(save_checkpoint(file, checkpoint), FormatError);
        checkpoint = guarded_checkpoint();
        checkpoint.good.round = 7;
        CHECK_THROWS_AS(save_checkpoint(file, checkpoint), FormatError);
        checkpoint = guarded_checkpoint();
        checkpoint.good.averaged.pop_back();
        CHECK_THROWS_AS(save_checkpoint(file, checkpoint), FormatError);
        checkpoint = guarded_checkpoint();
        checkpoint.model_round = 8;
        CHECK_THROWS_AS(save_checkpoint(file, checkpoint), FormatError);
        CHECK(files_in(folder.path()) == 0);
    }
}
