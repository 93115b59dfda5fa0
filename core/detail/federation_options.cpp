#include "core/detail/federation_options.hpp"

#include "core/data/dataset.hpp"
#include "core/data/partition.hpp"
#include "core/detail/precision_options.hpp"
#include "core/liars.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace dither::detail {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr std::int64_t kMostClasses = 1 << 20;
constexpr double kFloatLeast = std::numeric_limits<float>::min();
constexpr double kFloatMost = std::numeric_limits<float>::max();
constexpr Interval kPositive{0, kInfinity, true};
constexpr Interval kShare{0, 1, true};                              // (0, 1]
constexpr Interval kDecay{0, 1, false, true};                       // [0, 1)
constexpr Interval kFraction{0, 1, true, true};                     // (0, 1)
constexpr Interval kMinority{0, 0.5, false, true};                  // [0, 1/2)
constexpr std::int64_t kClientLimit = (std::int64_t{1} << 32) - 2;  // 2^32 - 1 stands for the server in StreamKey

/// cohort * over_select is rounded up, except for what binary fractions add: 10 * 1.1 is 11.
constexpr double kTolerance = 1e-9;

/// Of a text that may be empty.
Option text_option(std::string key, std::string& member, std::string meaning) {
    return {.key = std::move(key),
            .expected = "a string",
            .meaning = std::move(meaning),
            .text = [&member] { return toml_text(member); },
            .assign =
                [&member](const toml::node& node) {
                    member = node.value_or(member);
                    return node.is_string();
                },
            .choices = {}};
}

void declare_strategy(OptionList& list, StrategyOptions& strategy) {
    list.choice("federation.strategy.kind", strategy.kind,
                {{"fedavg", "model + server_lr * mean update"},
                 {"fedavgm", "the same with momentum at the server"},
                 {"fedadagrad", "server_lr * mean / (root of the sum of its squares + tau)"},
                 {"fedadam", "the mean's moving averages as in Adam"},
                 {"fedyogi", "likewise, with Yogi's second moment"},
                 {"fednova", "fedavg of updates normalized by how far their steps could go"},
                 {"scaffold", "fedavg of clients whose steps are corrected by control variates"}},
                "how updates become a new model");
    list.number("federation.strategy.server_lr", strategy.server_lr, kPositive, "the server's learning rate");
    list.choice("federation.strategy.weights", strategy.weights,
                {{"samples", "as many as a client has samples, at most sample_cap"}, {"uniform", "one each"}},
                "how much a client weighs in the mean");
    list.integer("federation.strategy.sample_cap", strategy.sample_cap, 1,
                 "a client weighs at most this: what it says of itself cannot be checked");
    list.number("federation.strategy.momentum", strategy.momentum, kDecay,
                "fedavgm: share of the velocity that is kept");
    list.number("federation.strategy.beta1", strategy.beta1, kDecay,
                "fedadagrad, fedadam, fedyogi: decay of the first moment");
    list.number("federation.strategy.beta2", strategy.beta2, kDecay, "fedadam, fedyogi: decay of the second moment");
    list.number("federation.strategy.tau", strategy.tau, kPositive,
                "fedadagrad, fedadam, fedyogi: added to the denominator, and the first second moment is its square");
    list.number(
        "federation.strategy.correction", strategy.correction, kShare,
        "scaffold: the share of the control variates that steps are corrected by; 1: the paper's, which sums up "
        "what codecs round away");
}

void declare_aggregation(OptionList& list, AggregationOptions& aggregation) {
    list.choice("federation.aggregation.kind", aggregation.kind,
                {{"mean", "weighted; of a cohort that is trusted"},
                 {"median", "of each parameter"},
                 {"trimmed_mean", "of each parameter, without the `faulty` largest and smallest"},
                 {"krum", "the update that is nearest to its neighbours"},
                 {"multi_krum", "the mean of the updates that are, all but the `faulty` furthest"},
                 {"bulyan",
                  "of updates that krum selects one after the other, of each parameter the mean of what is near its "
                  "median"},
                 {"geometric_median", "the point with the least sum of distances"},
                 {"centered_clipping", "the mean of updates clipped around it, three times over"}},
                "what stands for a cohort's updates; all but the mean give each one vote and hold them all: cohort * "
                "parameters * 4 bytes");
    list.number("federation.aggregation.faulty", aggregation.faulty, kMinority,
                "the share of a cohort that may lie, rounded down to clients");
    list.flag("federation.aggregation.mixing", aggregation.mixing,
              "each update is first replaced by the mean of itself and its nearest neighbours, all but the `faulty` "
              "furthest (NNM); not with the mean");
    list.number(
        "federation.aggregation.radius", aggregation.radius, {0, kInfinity},
        "centered_clipping: an update further away than this counts as if it were as near; 0: the median distance");
    list.number("federation.aggregation.clip", aggregation.clip, {0, kInfinity},
                "mean: an update longer than so many times the median norm of the last round's counts as if it were no "
                "longer; 0: as it is");
}

void declare_time(OptionList& list, FederationOptions& federation) {
    list.integer("federation.async.concurrency", federation.async.concurrency, 0, kClientLimit,
                 "so many clients train at a time, and a round ends with every `cohort` updates, whatever models they "
                 "started from (FedBuff), in simulated time; 0: synchronous rounds");
    list.integer("federation.async.staleness", federation.async.staleness, 0, 1 << 10,
                 "async: how many rounds old the model may be that an update started from, which counts for 1 / sqrt(1 "
                 "+ that)");
    list.choice("federation.sampling", federation.sampling,
                {{"uniform", "each client has the same chance"},
                 {"samples", "one after the other, each in proportion to its samples among those that are left"}},
                "which clients a round asks, of those that are available");
    list.add(text_option("federation.trace.devices", federation.trace.devices,
                         "simulations: a CSV file of speed,uplink,downlink,dropout, a row for each device, as in "
                         "federation.devices, whose place it takes; dealt to the clients at random; \"\": none"));
    list.add(text_option("federation.trace.availability", federation.trace.availability,
                         "simulations: a CSV file of device,from,until: when each device (a row of trace.devices, "
                         "from 0) is there, in simulated seconds, over and over; \"\": always"));
}

void declare_attack(OptionList& list, AttackOptions& attack) {
    list.choice("federation.attack.kind", attack.kind,
                {{"none", "all clients are honest"},
                 {"sign_flip", "the update times -scale"},
                 {"label_flip", "the update that training on labels classes - 1 - y gives"},
                 {"gaussian", "noise of deviation `scale`, and nothing else"},
                 {"alie", "the honest mean less `scale` deviations, parameter by parameter"},
                 {"ipm", "the honest mean times -scale"},
                 {"mimic", "the update of one honest client, the same for all"}},
                "simulations only: what attackers send; all but label_flip hold every update, as robust rules do");
    list.number("federation.attack.share", attack.share, kMinority, "of the clients, drawn by the seed, that attack");
    list.number("federation.attack.scale", attack.scale, kPositive, "how hard: what it scales depends on the kind");
}

void declare_partition(OptionList& list, PartitionOptions& partition) {
    list.choice("federation.partition.kind", partition.kind, partition_choices(),
                "how the training set is dealt to the clients");
    list.number("federation.partition.alpha", partition.alpha, kPositive,
                "dirichlet, quantity: concentration; small values give each client few classes, or some clients most");
    list.integer("federation.partition.shards", partition.shards, 1, 1 << 20,
                 "shards: how many, each of neighbours in the order of the labels, a client gets");
    list.integer("federation.partition.classes", partition.classes, 1, kMostClasses,
                 "pathological: how many different ones a client has");
    list.integer("federation.partition.samples", partition.samples, 1, 1 << 24, "resampled: how many a client has");
}

void check_aggregation(const Job& job, const Combinations& combinations) {
    const FederationOptions& federation = job.federation;
    const AggregationOptions& aggregation = federation.aggregation;
    const AttackOptions& attack = federation.attack;
    const bool robust = aggregation.kind != "mean";
    combinations.forbid(federation.cohort < fewest_updates(federation),
                        {"federation.aggregation.kind", "federation.aggregation.faulty", "federation.cohort"},
                        "the rule does not survive so many liars in such a cohort: bulyan needs 4 f + 3 clients for f "
                        "of them, krum and multi_krum 2 f + 3, the others 2 f + 1");
    combinations.forbid(robust && attack.kind != "none" && attack.share > aggregation.faulty,
                        {"federation.attack.share", "federation.aggregation.faulty"},
                        "more clients attack than the rule is to bear");
    combinations.forbid(!robust && aggregation.mixing, {"federation.aggregation.mixing", "federation.aggregation.kind"},
                        "the mean of mixed updates bears no liars");
    combinations.forbid(robust && federation.strategy.kind == "fednova",
                        {"federation.aggregation.kind", "federation.strategy.kind"},
                        "fednova weighs updates, and a robust rule gives each one vote");
    combinations.forbid(robust && aggregation.faulty > 0 && liars_borne(federation) == 0,
                        {"federation.aggregation.faulty", "federation.cohort"},
                        "rounded down, the rule is to bear nobody in such a cohort");
    combinations.forbid(attack.kind == "label_flip" && is_regression(job.data), {"federation.attack.kind", "data.task"},
                        "regression has no labels to flip");
}

void check_scaffold(const Job& job, const Combinations& combinations) {
    if (job.federation.strategy.kind != "scaffold")
        return;
    const TrainOptions& train = job.train;
    const auto forbid = [&](bool broken, std::string_view key, std::string_view reason) {
        combinations.forbid(broken, {"federation.strategy.kind", key}, reason);
    };
    constexpr std::string_view kPlain = "scaffold tells gradients from updates: only plain sgd at one rate lets it";
    forbid(train.optimizer.kind != "sgd", "train.optimizer.kind", kPlain);
    forbid(train.optimizer.momentum > 0, "train.optimizer.momentum", kPlain);
    forbid(train.schedule.kind != "constant", "train.schedule.kind", kPlain);
    forbid(train.schedule.warmup_rounds > 0, "train.schedule.warmup_rounds", kPlain);
    forbid(train.proximal > 0, "train.proximal", "both hold clients together: one is enough");
    forbid(job.codec.downlink_of == "model", "codec.downlink.of", "nodes follow control variates by changes");
    forbid(job.federation.aggregation.kind != "mean", "federation.aggregation.kind",
           "scaffold needs the mean, and a robust rule gives another update");
    forbid(job.federation.async.concurrency > 0, "federation.async.concurrency",
           "control variates belong to one model, and updates would come from several");
}

void check_strategy(const Job& job, const Combinations& combinations) {
    combinations.forbid(job.federation.strategy.kind == "fednova" && job.train.optimizer.kind != "sgd",
                        {"federation.strategy.kind", "train.optimizer.kind"},
                        "how far steps could go is known of sgd only");
    check_scaffold(job, combinations);
}

Option names_option(std::string key, std::vector<std::string>& member, std::string meaning) {
    return {.key = std::move(key),
            .expected = "a list of strings, no two of them the same",
            .meaning = std::move(meaning),
            .text =
                [&member] {
                    std::vector<std::string> texts(member.size());
                    std::ranges::transform(member, texts.begin(), toml_text);
                    return fmt::format("[{}]", fmt::join(texts, ", "));
                },
            .assign =
                [&member](const toml::node& node) {
                    const toml::array* const array = node.as_array();
                    if (array == nullptr || !std::ranges::all_of(*array, &toml::node::is_string))
                        return false;
                    std::vector<std::string> names;
                    for (const toml::node& name : *array)
                        names.push_back(name.as_string()->get());
                    if (std::set<std::string>(names.begin(), names.end()).size() != names.size())
                        return false;
                    member = std::move(names);
                    return true;
                },
            .choices = {}};
}

bool deals_classes(const PartitionOptions& partition) {
    constexpr std::array<std::string_view, 3> kinds{"dirichlet", "shards", "pathological"};
    return std::ranges::find(kinds, partition.kind) != kinds.end();
}

}  // namespace

void declare_data(OptionList& list, DataOptions& data) {
    list.choice("data.format", data.format, data_format_choices(), "the format of the files at data.path");
    list.text("data.path", data.path,
              "idx, cifar, images: the folder of the files; csv: the file; npy, libsvm: either one");
    list.text(
        "data.label", data.label,
        "csv: the column of the label: \"first\", \"last\" or its name in the header; cifar: which of CIFAR-100's "
        "labels: \"coarse\", the first, or \"fine\", the last");
    list.add(text_option(
        "data.groups", data.groups,
        "the partition natural: a text file with a line for each training sample (of a file that is not split: "
        "for each sample) that says whose it is; csv: or a name in the header: no feature then; daemons read no "
        "such file"));
    list.choice("data.task", data.task,
                {{"classification", "labels are classes"}, {"regression", "labels are numbers to predict"}},
                "csv, npy, libsvm: what the labels are");
    list.number("data.test_fraction", data.test_fraction, kFraction,
                "csv, libsvm of one file: the share of rows that becomes the test set");
    list.integer("data.limit", data.limit, 0, "use only so many training samples, the first ones; 0 = all");
    list.integer("data.classes", data.classes, 0, kMostClasses,
                 "classes of the labels; 0: as many as the training data shows");
    list.add(
        names_option("data.labels", data.labels,
                     "images, libsvm: the folders or labels of the classes, in the order of their numbers; []: all "
                     "of the training data, ascending"));
    list.numbers("data.mean", data.mean, {-kFloatMost, kFloatMost},
                 "what is subtracted from each channel (of pixel / 255) or feature; []: the training data's mean");
    list.numbers("data.deviation", data.deviation, {kFloatLeast, kFloatMost},
                 "what each channel or feature is then divided by; []: the training data's standard deviation");
    declare_enum(list, "data.augment", data.augment, augmentation_choices(),
                 "how the images of training batches are varied at random");
}

void declare_federation(OptionList& list, FederationOptions& federation) {
    list.integer("federation.clients", federation.clients, 1, kClientLimit, "clients that hold a part of the data");
    list.integer("federation.cohort", federation.cohort, 1, kClientLimit, "clients whose updates make a round");
    list.number("federation.over_select", federation.over_select, {1, kInfinity},
                "asks cohort * over_select clients, rounded up, and takes the first cohort of them; above 1 the set of "
                "participants, and so the model, depends on who answers first: on the devices' simulated time, if "
                "federation.devices or a trace has any, else on real time");
    list.duration("federation.deadline", federation.deadline,
                  "how long a round may take, or a task of asynchronous rounds; 0s waits for all. Simulated time where "
                  "federation.devices (speed, links, dropout) or a trace says anything, else real time");
    list.duration("federation.rejoin", federation.rejoin,
                  "how long a round waits for a client whose node is away: daemons only, in real time");
    list.number("federation.quorum", federation.quorum, kShare,
                "the share of the cohort that a round needs at its deadline");
    declare_strategy(list, federation.strategy);
    declare_aggregation(list, federation.aggregation);
    declare_attack(list, federation.attack);
    declare_time(list, federation);
    list.number(
        "federation.holdout", federation.holdout, kDecay,
        "the share of each client's samples, rounded down, that it never trains on: where models are evaluated, "
        "the cohort evaluates them on these, before training and after it");
    declare_partition(list, federation.partition);
    list.add(devices_option("federation.devices", federation.devices));
}

/// Whether tasks take simulated time, as far as the job says: a trace of devices may have speeds and links.
bool takes_time(const FederationOptions& federation) {
    return !federation.trace.devices.empty() ||
           std::ranges::any_of(federation.devices, [](const DeviceOptions& device) {
               return device.speed > 0 || device.uplink > 0 || device.downlink > 0;
           });
}

void check_async(const Job& job, const Combinations& combinations) {
    const FederationOptions& federation = job.federation;
    if (federation.async.concurrency == 0)
        return;
    constexpr std::string_view kConcurrency = "federation.async.concurrency";
    combinations.forbid(federation.async.concurrency > federation.clients, {kConcurrency, "federation.clients"},
                        "more clients would train at a time than there are");
    combinations.forbid(federation.over_select > 1, {kConcurrency, "federation.over_select"},
                        "an asynchronous round waits for nobody, so that nobody is asked in another's place");
    combinations.forbid(federation.aggregation.kind != "mean", {kConcurrency, "federation.aggregation.kind"},
                        "updates that started from different models cannot be compared");
    combinations.forbid(federation.attack.kind != "none" && federation.attack.kind != "label_flip",
                        {kConcurrency, "federation.attack.kind"},
                        "this attack knows the updates of a round, which started from different models");
    combinations.forbid(federation.deadline.count() > 0 && !takes_time(federation),
                        {kConcurrency, "federation.deadline", "federation.devices"},
                        "asynchronous rounds know simulated time only, and no device takes any");
    combinations.forbid(job.precision.byte_budget > 0, {kConcurrency, "precision.byte_budget"},
                        "whom an asynchronous round asks is not known before its grids are");
}

void check_federation(const Job& job, const Combinations& combinations) {
    const FederationOptions& federation = job.federation;
    combinations.forbid(federation.cohort > federation.clients, {"federation.cohort", "federation.clients"},
                        "the cohort is larger than the number of clients");
    combinations.forbid(std::ceil(federation.cohort * federation.over_select * (1 - kTolerance)) > federation.clients,
                        {"federation.over_select", "federation.cohort", "federation.clients"},
                        "cohort * over_select is larger than the number of clients");
    combinations.forbid(job.data.mean.size() != job.data.deviation.size(), {"data.mean", "data.deviation"},
                        "as many deviations are needed as means");
    combinations.forbid(is_regression(job.data) && deals_classes(federation.partition),
                        {"federation.partition.kind", "data.task"},
                        "this partition deals classes, and regression has none");
    combinations.forbid(federation.partition.kind == "natural" && job.data.groups.empty(),
                        {"federation.partition.kind", "data.groups"}, "this partition deals groups of samples");
    combinations.forbid(!federation.trace.availability.empty() && !takes_time(federation),
                        {"federation.trace.availability", "federation.devices"},
                        "no device takes any time, so that it would stand still, and nobody come or go");
    check_strategy(job, combinations);
    check_aggregation(job, combinations);
    check_async(job, combinations);
}

}  // namespace dither::detail
