// The job: every option of a run with its default, range and meaning, in one place (config.cpp declares them once, and
// the parser, the overrides, the resolved file, the help and the errors all follow from that one declaration).
#pragma once

#include "core/data/augmentation.hpp"
#include "core/layers/norm.hpp"
#include "core/quantize/quantizer.hpp"
#include "core/sha256.hpp"

#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace dither {

struct JobOptions {
    std::string name = "job";
    std::uint32_t seed = 1;
    std::uint32_t rounds = 20;
    std::uint32_t evaluate_every = 1;
};

struct DataOptions {
    std::string format = "idx";  ///< one of data_format_choices()
    std::string path = "/usr/share/datasets/fashion-mnist";
    std::string label = "last";           ///< csv: which column holds the label: "first", "last" or a header's name;
                                          ///< cifar: which label of CIFAR-100: "coarse", the first, or "fine", the last
    std::string groups;                   ///< whose a training sample is, for the partition "natural": a text file with
                                          ///< a line for each; csv: or a column's name in the header, no feature then
    std::string task = "classification";  ///< csv, libsvm, npy: classification | regression
    double test_fraction = 0.2;           ///< of a file that is not split: the share of rows, drawn by the seed, that
                                          ///< becomes the test split
    std::uint64_t limit = 0;              ///< use at most so many training samples, the first ones; 0 = all
    Augmentation augment = Augmentation::none;  ///< of the images of training batches
    /// What all data of a federation must agree on (core/data/dataset.hpp, Preparation). An aggregator of daemons fills
    /// in what its own data says; nodes then prepare theirs likewise.
    int classes = 0;                  ///< of the labels; 0: as many as the training data shows
    std::vector<std::string> labels;  ///< images, libsvm: how the data call the classes, in the order of their numbers;
                                      ///< empty: all that the training data has, ascending
    std::vector<double> mean;       ///< of images each channel's, of tables each feature's; empty: the training data's
    std::vector<double> deviation;  ///< likewise; inputs are (x - mean) / deviation, of images with x = pixel / 255
};

struct PartitionOptions {
    std::string kind = "iid";    ///< one of partition_choices()
    double alpha = 0.5;          ///< concentration of dirichlet and quantity
    std::uint32_t shards = 2;    ///< shards: of each client
    std::uint32_t classes = 2;   ///< pathological: of each client
    std::uint32_t samples = 60;  ///< resampled: of each client
};

struct StrategyOptions {
    std::string kind = "fedavg";           ///< make_strategy knows them
    double server_lr = 1.0;                ///< the server's learning rate
    std::string weights = "samples";       ///< samples | uniform: what a client weighs in the mean
    std::uint64_t sample_cap = 1'000'000;  ///< a client weighs at most this: what it says of itself cannot be checked
    double momentum = 0.9;                 ///< fedavgm
    double beta1 = 0.9;                    ///< fedadagrad, fedadam, fedyogi
    double beta2 = 0.99;                   ///< fedadam, fedyogi
    double tau = 1e-3;                     ///< fedadagrad, fedadam, fedyogi: added to the denominator
    double correction = 0.5;               ///< scaffold: the share of the control variates that steps are corrected by
};

/// What stands for a cohort's updates.
struct AggregationOptions {
    std::string kind = "mean";  ///< or a robust rule, which make_robust_rule knows
    double faulty = 0.2;        ///< the share of a cohort that may lie, rounded down to clients; below 1/2
    bool mixing = false;        ///< nearest-neighbour mixing before the rule
    double radius = 0;          ///< centered_clipping; 0: the median distance
    double clip = 4;  ///< mean: the longest update, as a multiple of the median norm of the last round's; 0: any
};

/// Asynchronous rounds: an aggregation whenever `cohort` updates are there, whatever models they started from.
struct AsyncOptions {
    std::uint32_t concurrency = 0;  ///< clients that train at a time; 0: rounds are synchronous
    std::uint32_t staleness = 16;   ///< how many rounds old the model may be that an update started from
};

/// Files that say what the devices of a simulation can do (aggregator/fleet.hpp).
struct TraceOptions {
    std::string devices;       ///< a row each; empty: federation.devices
    std::string availability;  ///< when each is there; empty: always
};

/// Clients of a simulation that lie.
struct AttackOptions {
    std::string kind = "none";  ///< attack_of (aggregator/detail/attack.hpp) knows them
    double share = 0.2;         ///< of the clients, drawn by the seed; below 1/2
    double scale = 1;           ///< how hard; what of depends on the kind
};

/// [[federation.devices]]: what a share of the clients can execute, and how fast, for simulated time.
struct DeviceOptions {
    double share = 0;          ///< of the clients, 0 < share; shares sum to at most 1, the rest can do everything
    std::vector<int> widths;   ///< that it can execute, ascending, 2..16 or 32
    std::uint64_t memory = 0;  ///< bytes for a training step; 0: no limit
    double speed = 0;          ///< samples a second that it trains; 0: no simulated time
    double spread = 0;         ///< deviation of the logarithm of a client's speed around that
    double uplink = 0;         ///< Mb/s; 0: no simulated time
    double downlink = 0;       ///< likewise
    double dropout = 0;        ///< the share of its rounds in which it is asked and never answers

    bool operator==(const DeviceOptions&) const = default;
};

struct FederationOptions {
    std::uint32_t clients = 100;
    std::uint32_t cohort = 10;
    double over_select = 1.0;  ///< ask cohort * over_select clients, rounded up, and close with the first cohort of
                               ///< them; above 1 the model depends on who answers first, in simulated
                               ///< time where devices have any
    std::chrono::milliseconds deadline{0};     ///< of a round, or of an asynchronous task; 0 = wait for all.
                                               ///< Simulated time where devices or traces are described, else real
    std::chrono::milliseconds rejoin{60'000};  ///< how long a round waits for a client whose node is away, where nodes
                                               ///< can come back (Hub::peers_return). Real time.
    double quorum = 0.5;  ///< a round needs this share of the cohort at its deadline, else it is abandoned
    StrategyOptions strategy;
    AggregationOptions aggregation;
    AttackOptions attack;
    AsyncOptions async;
    std::string sampling = "uniform";  ///< uniform | samples: which clients a round asks
    double holdout = 0;                ///< share of each client's samples that it never trains on but is evaluated on
    PartitionOptions partition;
    TraceOptions trace;
    std::vector<DeviceOptions> devices;
};

/// A layer of [[model.layers]]. Which members count depends on its kind, and so do their defaults: `dither
/// --help-job` lists them.
struct LayerOptions {
    std::string kind;
    std::int64_t outputs = 0;   ///< linear; 0 = as many as the data asks for
    std::int64_t channels = 0;  ///< conv2d
    std::int64_t kernel = 0;    ///< conv2d and pools
    std::int64_t stride = 0;
    std::int64_t padding = 0;
    std::int64_t groups = 0;             ///< conv2d and group_norm
    bool bias = true;                    ///< linear and conv2d
    double rate = 0.5;                   ///< dropout
    std::vector<LayerOptions> body;      ///< residual
    std::vector<LayerOptions> shortcut;  ///< residual; empty: the identity

    bool operator==(const LayerOptions&) const = default;
};

struct ModelOptions {
    std::string name = "cnn2";                                ///< one of model_choices()
    std::vector<std::int64_t> hidden = {128};                 ///< mlp: widths of the hidden layers
    NormStatistics norm_statistics = NormStatistics::shared;  ///< of batch norm
    std::vector<LayerOptions> layers;                         ///< the model "layers", and only that
};

struct OptimizerOptions {
    std::string kind = "sgd";  ///< one of optimizer_choices()
    double lr = 0.05;
    double momentum = 0.9;
    bool nesterov = false;
    double beta1 = 0.9;
    double beta2 = 0.999;
    double epsilon = 1e-8;
    double weight_decay = 0;
};

/// The learning rate over the run, as a factor on optimizer.lr (core/optim/schedule.hpp). Times are rounds; fractions
/// count the steps within one.
struct ScheduleOptions {
    std::string kind = "constant";  ///< one of schedule_choices()
    double warmup_rounds = 0;       ///< the factor rises linearly from 0 to 1 over so many
    double every_rounds = 10;       ///< step: multiplied by `factor` after each so many
    double factor = 0.1;            ///< step
    double floor = 0;               ///< cosine: the factor at the end of the run
};

struct LossScaleOptions {
    std::string kind = "none";  ///< one of loss_scale_choices()
    double value = 1024;        ///< static: the factor; dynamic: the first one
};

struct TrainOptions {
    std::uint32_t epochs = 1;  ///< local epochs a round
    std::uint32_t batch_size = 32;
    std::string loss = "cross_entropy";  ///< one of loss_choices()
    double label_smoothing = 0;          ///< cross_entropy: share of the target that all classes share
    double proximal = 0;                 ///< FedProx's mu; 0: none
    double clip_norm = 0;                ///< of the whole gradient; 0: none
    bool master_weights = true;          ///< false: weights stay on the codes of the plan's forward bits between steps
    std::uint32_t swa_start = 0;         ///< models are averaged from this round on; 0: not at all
    OptimizerOptions optimizer;
    ScheduleOptions schedule;
    LossScaleOptions loss_scale;
};

struct PrecisionOptions {
    std::string policy = "numgeom";  ///< one of policy_choices()
    int bits = 8;                    ///< uniform: forward, backward and optimizer; others: where they start
    int backward_bits = 0;           ///< uniform: backward, where that is not `bits`; 0: the same
    std::vector<int> levels = {4, 8, 16, 32};
    int margin_bits = 4;              ///< curvature's and numgeom_literal's safety margin c
    double target_error = 0.5;        ///< numgeom, learned: largest predicted error of a step (ErrorModel)
    double bit_budget = 0;            ///< largest mean width of forward and backward work; 0: none
    std::uint64_t byte_budget = 0;    ///< of a round, both directions, all clients; 0: none
    std::string combine = "clipped";  ///< mean | clipped | median: the clients' statistics (aggregator/combination.hpp)
    double uplink_noise = 0;          ///< auto grids: the quantization noise of the uplink's mean, as a share of the
                              ///< variance that the clients' own disagreement gives it; 0: by CodecOptions::rate
    double guard_loss = 4;            ///< a round whose training loss is so many times the best is rolled back; 0: none
    double guard_saturation = 0.5;    ///< a layer of which such a share of the values is clipped gets more bits
    std::uint32_t warmup_rounds = 1;  ///< numgeom_literal: rounds at fp32 first; 0: it decides from the second one
    std::uint32_t curvature_every = 10;      ///< rounds between measurements of the curvature
    std::uint32_t curvature_clients = 3;     ///< how many of the cohort measure it
    std::uint32_t probe_samples = 32;        ///< of its own that a client measures on, at most
    std::string curvature_method = "exact";  ///< one of curvature_method_choices()
    double backward_tolerance = 0.6;         ///< numgeom: largest relative rounding error of an output gradient
    double smoothing = 0.5;  ///< weight of the newest round in the controller's moving averages, 0 < s <= 1
};

/// [[quantize.layers]]: other options for the layers whose name `match` matches ("conv*", "fc2"; * stands for any
/// characters, ? for one).
struct LayerOverride {
    std::string match;
    std::vector<std::pair<std::string, std::string>> settings;  ///< a key below [quantize] and its value as TOML

    bool operator==(const LayerOverride&) const = default;
};

struct QuantizeOptions {
    QuantizerOptions weights{Symmetry::symmetric, Granularity::per_channel, Rounding::nearest, Observer::minmax};
    QuantizerOptions activations{Symmetry::affine, Granularity::per_tensor, Rounding::nearest,
                                 Observer::moving_average_minmax};
    QuantizerOptions gradients{Symmetry::symmetric, Granularity::per_sample, Rounding::stochastic, Observer::minmax};
    int optimizer_bits = 0;  ///< of the optimizer's state wherever the plan is below 32; 0: the plan's
    Execution execution = Execution::integer;
    std::vector<LayerOverride> layers;

    bool operator==(const QuantizeOptions&) const = default;
};

bool matches(const LayerOverride& override, std::string_view name);
/// The options of the layer called `name`: those of the job and then, in order, of every override that matches.
QuantizeOptions options_for(const QuantizeOptions& quantize, std::string_view name);

struct NoiseOptions {
    std::string kind = "none";        ///< one of noise_choices(): on the weights
    double sigma = 0.01;              ///< gaussian
    double xi_scaling = 1.0;          ///< xi
    int bits = 4;                     ///< the target width whose rounding error profiled noise imitates
    double drop_in = 0;               ///< share of the activations that get noise of that error; 0: none
    std::uint32_t calibration = 100;  ///< a client's training images that a profile is measured on
    double smoothing = 0.9;           ///< weight of the past in the moving average of profiles over a client's epochs
    std::string ramp = "none";        ///< one of ramp_choices()
    double warmup_rounds = 0;         ///< without noise
    double ramp_rounds = 1;           ///< from no noise to all of it, after the warm-up
};

/// One direction's codec.
struct CodecOptions {
    std::string kind = "grid";  ///< make_codec knows them
    int bits = 0;               ///< grid, qsgd: nominal width of a code, 2..16; 0 = "auto": qsgd 4; grid: by noise, if
                                ///< precision.uplink_noise says so, or by `rate` (aggregator/update_grid.hpp)
    double rate = 0;  ///< bits a coordinate on the wire: eden, trellis (0: 1); grid: the step is moved until a round
                      ///< takes so many (0: aggregator/update_grid.hpp)
    std::string coder = "context";  ///< grid: one of coder_choices(), how its integers become bytes
    double bandwidth = 0;           ///< Mb/s of a client's link, by which the coder "auto" chooses; 0: not known
    double share = 0.01;            ///< topk: of the coordinates that are sent
    std::string feedback = "auto";  ///< error feedback: on | off | auto, on for biased codecs
};

struct CodecPair {
    CodecOptions uplink;
    bool measure_uplink = false;  ///< clients decode what they send and report its error (LayerStatistics::update_nmse)
    CodecOptions downlink;
    std::string downlink_of = "delta";  ///< what the downlink carries: the whole "model" each round, or what it changed
                                        ///< since the one that the client holds
};

struct ComputeOptions {
    std::string backend = "auto";  ///< one of backend_choices()
};

struct OutputOptions {
    std::string dir = "runs/job";
    bool pictures = true;  ///< accuracy and precision as PNG, if gnuplot is there
};

/// A whole job. A copyable value; equal jobs give equal models.
struct Job {
    JobOptions job;
    DataOptions data;
    FederationOptions federation;
    ModelOptions model;
    TrainOptions train;
    PrecisionOptions precision;
    QuantizeOptions quantize;
    NoiseOptions noise;
    CodecPair codec;
    ComputeOptions compute;
    OutputOptions output;
};

/// Reads a job file and applies overrides ("section.key=value", TOML values; a bare word is taken as a string), in
/// order. Throws InputError that names the file and line (or the override), the key, what was expected and, for an
/// unknown key, the nearest known one. Ranges and combinations are checked too.
Job load_job(const std::string& path, std::span<const std::string> overrides = {});
/// The same for TOML text; `source` names it in errors.
Job parse_job(std::string_view toml, const std::string& source, std::span<const std::string> overrides = {});

/// The job as TOML with every key written out; parse_job(to_toml(job)) gives the same job.
std::string to_toml(const Job& job);
/// Names what decides the results: the SHA-256 of to_toml without [output], [compute], codec.uplink.measure and
/// job.rounds, so that a run can be continued for more rounds, elsewhere, by another backend, measured or not. With
/// train.schedule.kind = "cosine" every round depends on job.rounds, and the identity does.
Sha256 identity(const Job& job);
/// Every key with its type, default, range and meaning, for --help-job and the documentation.
std::string describe_options();

}  // namespace dither
