#include "core/config.hpp"

#include "core/error.hpp"
#include "core/precision/policy.hpp"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <filesystem>
#include <string>
#include <vector>

using dither::InputError;
using dither::Job;
using dither::parse_job;
using dither::to_toml;

namespace {

using Overrides = std::vector<std::string>;

Job with(const Overrides& overrides, const std::string& toml = "") {
    return parse_job(toml, "job.toml", overrides);
}

/// The message of the error that the job gives; fails if it gives none.
std::string error_of(const std::string& toml, const Overrides& overrides = {}) {
    try {
        parse_job(toml, "job.toml", overrides);
    } catch (const InputError& error) {
        return error.what();
    }
    FAIL("expected an InputError from " << toml);
    return {};
}

std::string error_of_override(const std::string& text) {
    return error_of("", {text});
}

}  // namespace

TEST_SUITE("core/config") {
    TEST_CASE("an empty job file is the default job") {
        CHECK(to_toml(parse_job("", "job.toml")) == to_toml(Job{}));
    }

    TEST_CASE("a job file sets what it names and leaves the rest at its default") {
        const Job job = parse_job(R"(
[job]
name = "fashion"
rounds = 3
[federation]
deadline = "60s"
strategy = { kind = "fedavg", server_lr = 0.5 }
[federation.partition]
kind = "dirichlet"
alpha = 1
[model]
hidden = [32, 16]
[train]
optimizer = { kind = "adam", lr = 1e-3 }
[precision]
policy = "uniform"
levels = [3, 8, 32]
[quantize]
weights = { scheme = "per_tensor_affine", observer = "moving_average_minmax", rounding = "stochastic" }
[codec]
uplink = { kind = "grid", bits = 5 }
[output]
pictures = false
)",
                                  "job.toml");
        CHECK(job.job.name == "fashion");
        CHECK(job.job.rounds == 3);
        CHECK(job.job.seed == Job{}.job.seed);
        CHECK(job.federation.deadline == std::chrono::seconds(60));
        CHECK(job.federation.strategy.server_lr == 0.5);
        CHECK(job.federation.partition.kind == "dirichlet");
        CHECK(job.federation.partition.alpha == 1.0);
        CHECK(job.model.hidden == std::vector<std::int64_t>{32, 16});
        CHECK(job.train.optimizer.kind == "adam");
        CHECK(job.train.optimizer.lr == 1e-3);
        CHECK(job.train.batch_size == Job{}.train.batch_size);
        CHECK(job.precision.levels == std::vector<int>{3, 8, 32});
        CHECK(job.quantize.weights ==
              dither::QuantizerOptions{dither::Symmetry::affine, dither::Granularity::per_tensor,
                                       dither::Rounding::stochastic, dither::Observer::moving_average_minmax});
        CHECK(job.codec.uplink.bits == 5);
        CHECK(job.codec.downlink.bits == 0);
        CHECK_FALSE(job.output.pictures);
    }

    TEST_CASE("what 8 and 16 bits stand for is one choice for all tensors") {
        const Job job = with({"quantize.format8=e4m3", "quantize.format16=fp16", "precision.policy=uniform"});
        for (const dither::QuantizerOptions& options :
             {job.quantize.weights, job.quantize.activations, job.quantize.gradients}) {
            CHECK(options.format8 == dither::Format8::e4m3);
            CHECK(options.format16 == dither::Format16::fp16);
        }
        CHECK(Job{}.quantize.weights.format16 == dither::Format16::bf16);
        CHECK_THROWS_WITH_AS(with({"quantize.format8=e4m3"}), doctest::Contains("floats of 8 bits err otherwise"),
                             dither::InputError);
        CHECK_THROWS_WITH_AS(with({"quantize.format8=e3m4"}), doctest::Contains("e5m2"), dither::InputError);
    }

    TEST_CASE("layers may have quantizers of their own, and the resolved job says so") {
        const std::string toml = R"(
[[quantize.layers]]
match = "conv*"
weights = { scheme = "per_group_symmetric", group_size = 16 }
activations.bits = 8
[[quantize.layers]]
match = "conv2"
weights.bits = 2
)";
        const Job job = dither::parse_job(toml, "job.toml");
        const dither::QuantizeOptions first = options_for(job.quantize, "conv1");
        CHECK(first.weights.granularity == dither::Granularity::per_group);
        CHECK(first.weights.group_size == 16);
        CHECK(first.weights.bits == 0);
        CHECK(first.activations.bits == 8);
        CHECK(options_for(job.quantize, "conv2").weights.bits == 2);
        CHECK(options_for(job.quantize, "fc1").weights == job.quantize.weights);
        CHECK(dither::parse_job(to_toml(job), "again").quantize == job.quantize);
        CHECK(to_toml(dither::parse_job(to_toml(job), "again")) == to_toml(job));
    }

    TEST_CASE("a fault in a layer's quantizer is named with its place and line") {
        CHECK(error_of("[[quantize.layers]]\nmatch = \"fc1\"\nweights.bits = 1") ==
              "job.toml:3:16: quantize.layers[0].weights.bits: expected \"plan\" or an integer, 2 .. 16, found 1");
        CHECK(error_of("[[quantize.layers]]\nmatch = \"fc1\"\nweights.bit = 4") ==
              "job.toml:3:9: unknown key quantize.layers[0].weights.bit; the nearest known one is weights.bits");
        CHECK(error_of("[[quantize.layers]]\nweights.bits = 4")
                  .find("quantize.layers[0].match: expected a layer's name or a pattern") != std::string::npos);
        CHECK(error_of("[quantize]\nlayers = 3").find("quantize.layers: expected a list of tables") !=
              std::string::npos);
    }

    TEST_CASE("what cannot be learned is refused, with the reason") {
        CHECK(error_of("[precision]\npolicy = \"fp32\"\n[quantize]\nweights.observer = \"lsq\"")
                  .find("a range is learned where values are rounded to integers, and at these bits none are") !=
              std::string::npos);
        for (const char* bits : {"32", "16"})
            CHECK(error_of(std::string("[precision]\npolicy = \"uniform\"\nbits = ") + bits +
                           "\n[[quantize.layers]]\nmatch = \"conv1\"\nweights.observer = \"lsq\"")
                      .find("quantize.layers = ") != std::string::npos);
        CHECK(error_of("[[quantize.layers]]\nmatch = \"conv1\"").find("an override with nothing but a match") !=
              std::string::npos);
        CHECK(error_of("[job]\nrounds = 3\n[noise]\nwarmup_rounds = 3").find("the run ends before noise sets in") !=
              std::string::npos);
        CHECK(error_of("[job]\nrounds = 1\n[train]\nschedule.warmup_rounds = 2")
                  .find("the run ends before the learning rate has warmed up") != std::string::npos);
        CHECK(error_of("[quantize]\nactivations = { observer = \"lsq_plus\", scheme = \"per_tensor_symmetric\" }")
                  .find("is learned for affine schemes only") != std::string::npos);
        CHECK(error_of("[quantize]\ngradients.observer = \"lsq\"").find("expected one of \"minmax\"") !=
              std::string::npos);
        CHECK(error_of("[quantize]\nweights.observer = \"pact\"").find("expected one of \"minmax\"") !=
              std::string::npos);
    }

    TEST_CASE("devices are read, written with every key, and read back the same") {
        const Job job = with({}, R"(
[[federation.devices]]
share = 0.25
widths = [4, 8, 32]
memory = "64MiB"
speed = 12.5
spread = 1.5
uplink = 2
downlink = 10
dropout = 0.25
[[federation.devices]]
share = 0.75
memory = 1000
)");
        REQUIRE(job.federation.devices.size() == 2);
        CHECK(job.federation.devices[0] == dither::DeviceOptions{.share = 0.25,
                                                                 .widths = {4, 8, 32},
                                                                 .memory = std::uint64_t{64} << 20,
                                                                 .speed = 12.5,
                                                                 .spread = 1.5,
                                                                 .uplink = 2,
                                                                 .downlink = 10,
                                                                 .dropout = 0.25});
        CHECK(job.federation.devices[1] == dither::DeviceOptions{.share = 0.75, .widths = {}, .memory = 1000});
        const std::string text = to_toml(job);
        CHECK(text.find(
                  "devices = [{ share = 0.25, widths = [4, 8, 32], memory = 67108864, speed = 12.5, spread = 1.5, "
                  "uplink = 2.0, downlink = 10.0, dropout = 0.25 }, { share = 0.75, widths = [], memory = 1000, "
                  "speed = 0.0, spread = 0.0, uplink = 0.0, downlink = 0.0, dropout = 0.0 }]\n") != std::string::npos);
        CHECK(parse_job(text, "resolved").federation.devices == job.federation.devices);
        CHECK(to_toml(parse_job(text, "resolved")) == text);
        CHECK(with({"federation.devices=[{share=1, widths=[2]}]"}).federation.devices[0].widths == std::vector{2});
        CHECK(dither::identity(job) != dither::identity(Job{}));
        CHECK(dither::describe_options().find("memory = 0: bytes that a training step may take") != std::string::npos);
    }

    TEST_CASE("a device that cannot be is refused with its place") {
        const std::string table = "[[federation.devices]]\n";
        CHECK(error_of(table + "share = 0") ==
              "job.toml:2:9: federation.devices[0].share: expected a number > 0 and <= 1, found 0");
        CHECK(error_of(table + "widths = [8]").find("federation.devices[0]: a device needs the key share") !=
              std::string::npos);
        CHECK(error_of(table + "share = 0.5\n" + table + "share = 0.6") ==
              "job.toml:4:9: federation.devices[1].share: the shares up to here sum to 1.1, expected at most 1");
        for (const char* widths : {"[8, 4]", "[4, 4]", "[1]", "[17]", "[8, 64]", "[8.0]", "8"})
            CHECK(error_of(table + "share = 1\nwidths = " + widths)
                      .find("federation.devices[0].widths: expected an ascending list of bit widths") !=
                  std::string::npos);
        for (const char* memory : {"-1", "\"64\"", "\"64 MiB\"", "\"MiB\"", "\"64MB\"", "1.5", "\"-1KiB\"",
                                   "\"18446744073709551615GiB\"", "\"9223372036854775807KiB\""})
            CHECK(error_of(table + "share = 1\nmemory = " + memory)
                      .find("federation.devices[0].memory: expected an integer >= 0 or a text") != std::string::npos);
        CHECK(error_of(table + "share = 1\nwidth = [8]") ==
              "job.toml:3:1: unknown key federation.devices[0].width; the nearest known one is widths");
        CHECK(error_of("[federation]\ndevices = 3").find("federation.devices: expected a list of tables") !=
              std::string::npos);
        CHECK(error_of("[federation]\ndevices = [3]").find("federation.devices[0]: expected a table, found 3") !=
              std::string::npos);
        CHECK(with({"federation.devices=[{share=0.7},{share=0.2},{share=0.1}]"}).federation.devices.size() == 3);
    }

    TEST_CASE("bits that are fixed for every client are bits that every device executes") {
        const std::string device = "federation.devices=[{share=0.5, widths=[8, 32]}]";
        const std::string fixed = error_of("", {device, "quantize.gradients.bits=4"});
        CHECK(fixed.find("federation.devices = [{ share = 0.5") != std::string::npos);
        CHECK(fixed.find("a device does not execute the bits that are fixed for every client") != std::string::npos);
        CHECK(
            error_of("[[quantize.layers]]\nmatch = \"fc*\"\nweights.bits = 4", {device}).find("quantize.layers = [{") !=
            std::string::npos);
        CHECK(with({device, "quantize.gradients.bits=8"}).quantize.gradients.bits == 8);
        CHECK(with({"federation.devices=[{share=0.5}]", "quantize.gradients.bits=4"}).quantize.gradients.bits == 4);
    }

    TEST_CASE("overrides win over the file, and the last one over the others") {
        const std::string toml =
            "[federation]\npartition = { kind = \"dirichlet\", alpha = 0.1 }\n[precision]\nbits = 16";
        const Job job = with({"precision.policy=uniform", "precision.bits=4", "precision.bits=8",
                              "federation.partition.kind=iid", "federation.deadline=500ms", "output.dir=runs/a b=c",
                              "train.optimizer={momentum = 0.5}", "precision.levels=[8, 32]", "output.pictures=false"},
                             toml);
        CHECK(job.precision.policy == "uniform");
        CHECK(job.precision.bits == 8);
        CHECK(job.federation.partition.kind == "iid");
        CHECK(job.federation.partition.alpha == 0.1);
        CHECK(job.federation.deadline == std::chrono::milliseconds(500));
        CHECK(job.output.dir == "runs/a b=c");
        CHECK(job.train.optimizer.momentum == 0.5);
        CHECK(job.train.optimizer.lr == Job{}.train.optimizer.lr);
        CHECK(job.precision.levels == std::vector<int>{8, 32});
        CHECK_FALSE(job.output.pictures);
    }

    TEST_CASE("a word in place of a table is its kind") {
        const Job job = with({"codec.uplink=raw"}, "[federation]\nstrategy = \"fedavg\"\npartition = \"dirichlet\"");
        CHECK(job.federation.strategy.kind == "fedavg");
        CHECK(job.federation.partition.kind == "dirichlet");
        CHECK(job.codec.uplink.kind == "raw");
    }

    TEST_CASE("the resolved file names every key and reads back as the same job") {
        Job job = with({"job.name=\"quotes \\\" and \\\\ and \\u0007\"", "job.seed=4294967295",
                        "train.optimizer.lr=1e-7", "federation.over_select=1.25", "federation.deadline=90s",
                        "codec.downlink.bits=6", "codec.uplink.bits=auto", "data.limit=9223372036854775807",
                        "quantize.gradients.scheme=per_tensor_symmetric"});
        const std::string resolved = to_toml(job);
        CHECK(to_toml(parse_job(resolved, "resolved")) == resolved);
        CHECK(parse_job(resolved, "resolved").job.name == job.job.name);
        CHECK(resolved.find("\n[federation]\nclients = 100\n") != std::string::npos);
        CHECK(resolved.find("\ndeadline = \"90s\"\n") != std::string::npos);
        CHECK(resolved.find("\npartition = { kind = \"iid\", alpha = 0.5, shards = 2, classes = 2, samples = 60 }\n") !=
              std::string::npos);
        CHECK(resolved.find("\ndownlink = { kind = \"grid\", bits = 6, ") != std::string::npos);
        CHECK(resolved.starts_with("[job]\nname = "));
    }

    TEST_CASE("a grid has a width or a rate, and a whole model no codec of updates") {
        for (const char* link : {"uplink", "downlink"}) {
            const std::string error =
                error_of("", {fmt::format("codec.{}.bits=4", link), fmt::format("codec.{}.rate=0.5", link)});
            CHECK(error.ends_with("one of both decides the grid"));
        }
        CHECK(error_of("", {"precision.uplink_noise=0.05", "codec.downlink.rate=0.5"})
                  .ends_with("noise or a rate decides the grids"));
        CHECK(error_of("", {"codec.downlink.of=model", "codec.downlink.kind=sign"})
                  .ends_with("this codec is for what changed, whose errors average out"));
        CHECK_NOTHROW(with({"codec.downlink.of=model", "codec.downlink.kind=bf16"}));
    }

    TEST_CASE("durations are written in the longest unit that fits") {
        for (const char* text : {"500ms", "60001ms", "61s", "10min", "3h", "0s"})
            CHECK(to_toml(with({std::string("federation.deadline=") + text})).find(text) != std::string::npos);
        CHECK(with({"federation.deadline=60000ms"}).federation.deadline == std::chrono::minutes(1));
    }

    TEST_CASE("an unknown key is an error with its line and the nearest key") {
        CHECK(error_of("[federation]\n\ncohrt = 3") ==
              "job.toml:3:1: unknown key federation.cohrt; the nearest known one is federation.cohort");
        CHECK(error_of("[trian]\nepochs = 3") == "job.toml:1:2: unknown key trian; the nearest known one is train");
        CHECK(error_of("[train]\nlr = 0.1") ==
              "job.toml:2:1: unknown key train.lr; the nearest known one is train.optimizer.lr");
        CHECK(error_of_override("precision.bit=8") ==
              "--set precision.bit=8: unknown key precision.bit; the nearest known one is precision.bits");
        CHECK(error_of("[job.name]\nx = 1") ==
              "job.toml:1:1: job.name: expected a string that is not empty, found a table");
    }

    TEST_CASE("a wrong type is an error that names what was expected and what was found") {
        CHECK(error_of("[job]\nrounds = \"three\"") ==
              "job.toml:2:10: job.rounds: expected an integer, 1 .. 4294967295, found \"three\"");
        CHECK(error_of("[job]\nrounds = 1.5").find("found 1.5") != std::string::npos);
        CHECK(error_of("[train]\noptimizer = 3") == "job.toml:2:13: train.optimizer: expected a table, found 3");
        CHECK(error_of("job = 1") == "job.toml:1:7: job: expected a table, found 1");
        CHECK(error_of("[output]\npictures = \"yes\"").find("expected true or false, found \"yes\"") !=
              std::string::npos);
        CHECK(error_of("[quantize]\nweights = \"affine\"").find("quantize.weights: expected a table") !=
              std::string::npos);
    }

    TEST_CASE("a name that is none of the choices is an error that lists them") {
        CHECK(error_of_override("precision.policy=fp16") ==
              "--set precision.policy=fp16: precision.policy: expected one of \"fp32\", \"uniform\", \"amp\", "
              "\"gradient\", \"curvature\", \"numgeom\", \"numgeom_literal\", \"loss\", \"plateau\", \"range\", "
              "\"hawq\", "
              "\"learned\", found \"fp16\"");
        for (const char* key : {"data.format", "data.task", "federation.partition.kind", "model.name", "train.loss",
                                "train.optimizer.kind", "quantize.weights.scheme", "quantize.activations.observer",
                                "quantize.gradients.rounding", "noise.kind", "compute.backend"})
            CHECK(error_of_override(std::string(key) + "=nonsense").find("expected one of") != std::string::npos);
    }

    TEST_CASE("names that transport knows are its to check") {
        CHECK(with({"codec.uplink.kind=other"}).codec.uplink.kind == "other");
    }

    TEST_CASE("weights have no scale for each sample, since they have no samples") {
        CHECK(error_of_override("quantize.weights.scheme=per_sample_symmetric").find("expected one of") !=
              std::string::npos);
        CHECK_NOTHROW(with({"quantize.activations.scheme=per_sample_symmetric"}));
    }

    TEST_CASE("values out of their range are refused") {
        for (const char* text : {"job.seed=-1",
                                 "job.seed=4294967296",
                                 "job.rounds=0",
                                 "job.evaluate_every=0",
                                 "job.name=",
                                 "data.test_fraction=0",
                                 "data.test_fraction=1.0",
                                 "data.limit=-1",
                                 "federation.clients=0",
                                 "federation.clients=4294967295",
                                 "federation.cohort=0",
                                 "federation.over_select=0.5",
                                 "federation.over_select=inf",
                                 "federation.quorum=0",
                                 "federation.quorum=1.5",
                                 "federation.deadline=60",
                                 "federation.deadline=-1s",
                                 "federation.deadline=1day",
                                 "federation.partition.alpha=0",
                                 "federation.partition.alpha=nan",
                                 "model.hidden=[]",
                                 "model.hidden=[0]",
                                 "model.hidden=[1.5]",
                                 "train.epochs=0",
                                 "train.batch_size=0",
                                 "train.optimizer.lr=0",
                                 "train.optimizer.momentum=1",
                                 "train.optimizer.weight_decay=-0.1",
                                 "precision.bits=1",
                                 "precision.bits=33",
                                 "precision.smoothing=0",
                                 "precision.backward_bits=-1",
                                 "precision.backward_bits=33",
                                 "precision.target_error=0",
                                 "precision.bit_budget=33",
                                 "precision.bit_budget=-1",
                                 "precision.byte_budget=-1",
                                 "precision.uplink_noise=-1",
                                 "precision.guard_loss=-1",
                                 "precision.guard_saturation=0",
                                 "precision.guard_saturation=1.5",
                                 "precision.backward_tolerance=0",
                                 "precision.levels=[8, 4, 32]",
                                 "precision.levels=[4, 8]",
                                 "precision.levels=[1, 32]",
                                 "precision.levels=[4, 20, 32]",
                                 "precision.levels=[4, 4, 32]",
                                 "precision.levels=8",
                                 "codec.uplink.bits=1",
                                 "codec.uplink.bits=17",
                                 "codec.uplink.bits=many",
                                 "noise.sigma=-1"}) {
            CAPTURE(text);
            const std::string message = error_of_override(text);
            CHECK(message.starts_with(std::string("--set ") + text));
            CHECK(message.find(": expected ") != std::string::npos);
        }
    }

    TEST_CASE("options that do not go together are refused, each with its value and origin") {
        CHECK(
            error_of("[federation]\nclients = 5") ==
            "job.toml: federation.cohort = 10 (default), federation.clients = 5 (job.toml:2:11): the cohort is larger "
            "than the number of clients");
        const auto refused = [](const Overrides& overrides, const char* reason) {
            const std::string message = error_of("", overrides);
            CAPTURE(message);
            return message.find(reason) != std::string::npos;
        };
        CHECK(refused({"federation.clients=11", "federation.over_select=1.2"}, "cohort * over_select"));
        CHECK(refused({"federation.clients=11", "federation.over_select=1.15"}, "cohort * over_select"));
        CHECK_NOTHROW(with({"federation.clients=11", "federation.over_select=1.1"}));
        CHECK(refused({"federation.aggregation.kind=bulyan"}, "does not survive so many liars"));
        CHECK_NOTHROW(with({"federation.aggregation.kind=bulyan", "federation.cohort=11"}));
        CHECK(refused({"federation.aggregation.kind=krum", "federation.aggregation.faulty=0.4"}, "does not survive"));
        CHECK(
            refused({"federation.aggregation.kind=median", "federation.attack.kind=ipm", "federation.attack.share=0.3"},
                    "more clients attack than"));
        CHECK(refused({"federation.aggregation.mixing=true"}, "bears no liars"));
        CHECK(refused({"precision.policy=uniform", "precision.bits=5"}, "none of the levels"));
        CHECK(refused({"train.optimizer.nesterov=true", "train.optimizer.momentum=0"}, "nesterov needs sgd"));
        CHECK(refused({"train.optimizer.nesterov=true", "train.optimizer.kind=adam"}, "nesterov needs sgd"));
        CHECK(refused({"train.loss=mse"}, "cross_entropy"));
        CHECK(refused({"data.format=csv", "data.task=regression"}, "\"mse\""));
        CHECK(refused({"data.format=csv", "data.task=regression", "train.loss=mse", "federation.partition=dirichlet"},
                      "this partition deals classes"));
    }

    TEST_CASE("asynchronous rounds are refused what needs a cohort that begins together") {
        const std::string job = "[federation]\nasync.concurrency = 30";
        for (const char* override :
             {"federation.async.concurrency=101", "federation.over_select=1.5", "federation.aggregation.kind=median",
              "federation.attack.kind=ipm", "precision.byte_budget=1000000"}) {
            CAPTURE(override);
            CHECK(error_of(job, {override}).find("federation.async.concurrency = ") != std::string::npos);
        }
        CHECK_NOTHROW(with({"federation.attack.kind=label_flip"}, job));
        CHECK_NOTHROW(with({"federation.strategy.kind=fedadam"}, job));
    }

    TEST_CASE("scaffold is for plain sgd at one rate, the mean, and models that come as changes") {
        const auto refused = [](const char* override) {
            const std::string message =
                error_of("", {"federation.strategy.kind=scaffold", "train.optimizer.momentum=0", override});
            const std::string_view text(override);
            return message.find(text.substr(0, text.find('='))) != std::string::npos;
        };
        CHECK_NOTHROW(with({"federation.strategy.kind=scaffold", "train.optimizer.momentum=0"}));
        for (const char* override :
             {"train.optimizer.momentum=0.5", "train.optimizer.kind=adam", "train.schedule.kind=cosine",
              "train.schedule.warmup_rounds=1", "train.proximal=0.1", "codec.downlink.of=model",
              "federation.aggregation.kind=median", "federation.async.concurrency=20"}) {
            CAPTURE(override);
            CHECK(refused(override));
        }
    }

    TEST_CASE("precision options that contradict each other are refused, each with its value and origin") {
        CHECK(error_of("[precision]\npolicy = \"uniform\"\nbackward_bits = 6") ==
              "job.toml: precision.backward_bits = 6 (job.toml:3:17), precision.levels = [4, 8, 16, 32] (default): the "
              "backward bits of the uniform policy are none of the levels");
        CHECK(error_of("", {"precision.backward_bits=4"}) ==
              "job.toml: precision.backward_bits = 4 (--set precision.backward_bits=4), precision.policy = \"numgeom\" "
              "(default): only the uniform policy is told its backward bits, the others decide them");
        CHECK(error_of("", {"precision.policy=amp", "precision.levels=[4, 8, 32]"}) ==
              "job.toml: precision.policy = \"amp\" (--set precision.policy=amp), precision.levels = [4, 8, 32] (--set "
              "precision.levels=[4, 8, 32]): mixed precision takes 16 bits forward, which are none of the levels");
        CHECK(
            error_of("", {"precision.bit_budget=3.5"}) ==
            "job.toml: precision.bit_budget = 3.5 (--set precision.bit_budget=3.5), precision.levels = [4, 8, 16, 32] "
            "(default): the budget is below the lowest level");
        CHECK(error_of("", {"precision.guard_loss=0.5"}).find("a round as good as the best one would be rolled back") !=
              std::string::npos);
        for (const char* policy : {"loss", "plateau", "range"})
            CHECK(error_of("", {std::string("precision.policy=") + policy, "codec.uplink.bits=6"})
                      .find("this policy decides the bits of the uplink, which must be \"auto\"") != std::string::npos);
        CHECK_NOTHROW(with({"precision.policy=uniform", "precision.bits=8", "precision.backward_bits=4"}));
        CHECK_NOTHROW(with({"precision.bit_budget=4"}));
        CHECK_NOTHROW(with({"precision.guard_loss=0"}));
        CHECK_NOTHROW(with({"codec.uplink.bits=6"}));
        CHECK_NOTHROW(with({"precision.levels=[2, 3, 4, 6, 8, 16, 32]", "precision.bit_budget=2.5"}));
        for (const dither::Choice& policy : dither::policy_choices())
            CHECK_NOTHROW(with({"precision.policy=" + std::string(policy.name)}));
    }

    TEST_CASE("mixed precision rounds to floats, so that it has no range to learn") {
        CHECK(error_of("", {"precision.policy=amp", "quantize.weights.observer=lsq"})
                  .find("a range is learned where values are rounded to integers") != std::string::npos);
        CHECK_NOTHROW(with({"precision.policy=amp", "quantize.weights.observer=lsq", "quantize.format16=int16"}));
    }

    TEST_CASE("training aids that do not go together are refused") {
        CHECK(
            error_of("", {"train.label_smoothing=0.1", "train.loss=mse", "data.format=csv", "data.task=regression"}) ==
            "job.toml: train.label_smoothing = 0.1 (--set train.label_smoothing=0.1), train.loss = \"mse\" (--set "
            "train.loss=mse): label smoothing is for classes, and mse has none");
        CHECK(
            error_of("", {"train.swa_start=21"}) ==
            "job.toml: train.swa_start = 21 (--set train.swa_start=21), job.rounds = 20 (default): the run ends before "
            "the averaging of models starts");
        CHECK_NOTHROW(with({"train.swa_start=20"}));
        const std::string moving =
            "a trained step size moves between two steps, and weights without fp32 masters cannot follow";
        CHECK(error_of("", {"train.master_weights=false", "quantize.weights.observer=lsq"}) ==
              "job.toml: train.master_weights = false (--set train.master_weights=false), quantize.weights.observer = "
              "\"lsq\" (--set quantize.weights.observer=lsq), quantize.layers = [] (default): " +
                  moving);
        CHECK(error_of("[train]\nmaster_weights = false\n[[quantize.layers]]\nmatch = \"fc*\"\nweights = { observer = "
                       "\"lsq\" }")
                  .ends_with(moving));
        CHECK_NOTHROW(with({"train.master_weights=false", "quantize.activations.observer=lsq"}));
    }

    TEST_CASE("text that is not TOML is an error with its line") {
        CHECK(error_of("[job]\nrounds = ").starts_with("job.toml:2:"));
        CHECK(error_of("[job]\nseed = 1\nseed = 2").starts_with("job.toml:3:"));
    }

    TEST_CASE("an override that is not key=value is refused") {
        for (const char* text : {"job.rounds", "=3", "job.rounds=1\njob.seed=2"}) {
            CAPTURE(text);
            CHECK(error_of_override(text) == std::string("--set ") + text + ": expected section.key=value");
        }
        CHECK(error_of_override("precision.levels=[4, 8").starts_with("--set precision.levels=[4, 8: "));
    }

    TEST_CASE("a missing job file is an error that names it") {
        const std::string folder = std::filesystem::temp_directory_path().string();
        CHECK_THROWS_WITH_AS(dither::load_job("/nonexistent/job.toml"),
                             "/nonexistent/job.toml: cannot read the job file", InputError);
        CHECK_THROWS_AS(dither::load_job(folder), InputError);
    }

    TEST_CASE("the identity is of what decides the results") {
        const auto same = [](const char* text) { return identity(with({text})) == identity(Job{}); };
        CHECK(same("job.rounds=7"));
        CHECK(same("output.dir=elsewhere"));
        CHECK(same("compute.backend=eigen"));
        CHECK(same("codec.uplink.measure=true"));
        CHECK_FALSE(same("job.seed=7"));
        CHECK_FALSE(same("train.optimizer.lr=0.06"));
        CHECK_FALSE(same("quantize.weights.rounding=stochastic"));
        CHECK_FALSE(same("codec.downlink.bits=8"));
    }

    TEST_CASE("the identity is of the run's length, too, where the learning rate goes down to its end") {
        const auto of = [](const char* kind, const char* rounds) { return identity(with({kind, rounds})); };
        CHECK(of("train.schedule=cosine", "job.rounds=7") != of("train.schedule=cosine", "job.rounds=8"));
        CHECK(of("train.schedule=step", "job.rounds=7") == of("train.schedule=step", "job.rounds=8"));
    }

    TEST_CASE("the description shows a key with its default, its range and its meaning") {
        const std::string help = dither::describe_options();
        CHECK(help.find("\nfederation.partition.alpha = 0.5\n") != std::string::npos);
        CHECK(help.find("small values give each client few classes, or some clients most\n    a number > 0\n") !=
              std::string::npos);
        CHECK(help.find("\n        fp32: 32 bits everywhere\n") != std::string::npos);
        CHECK(help.find("\nquantize.gradients.rounding = \"stochastic\"\n") != std::string::npos);
    }
}
