#include "core/config.hpp"

#include "core/compute/backend.hpp"
#include "core/data/dataset.hpp"
#include "core/detail/combinations.hpp"
#include "core/detail/federation_options.hpp"
#include "core/detail/joining_dots.hpp"
#include "core/detail/options.hpp"
#include "core/detail/precision_options.hpp"
#include "core/detail/quantize_options.hpp"
#include "core/error.hpp"
#include "core/model/detail/described.hpp"
#include "core/model/loss.hpp"
#include "core/model/model.hpp"
#include "core/noise/noise.hpp"
#include "core/optim/loss_scale.hpp"
#include "core/optim/optimizer.hpp"
#include "core/optim/schedule.hpp"
#include "core/precision/device.hpp"
#include "core/precision/plan.hpp"
#include "core/precision/policy.hpp"
#include "core/quantize/width.hpp"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <iterator>
#include <limits>

namespace dither {
namespace {

using detail::Combinations;
using detail::Option;
using detail::OptionList;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr detail::Interval kPositive{0, kInfinity, true};
constexpr detail::Interval kNotNegative{0, kInfinity};
constexpr detail::Interval kShare{0, 1, true};         // (0, 1]
constexpr detail::Interval kDecay{0, 1, false, true};  // [0, 1)

void declare_codec(OptionList& list, const std::string& table, CodecOptions& options, const std::string& automatic) {
    list.text(table + ".kind", options.kind, "how parameters travel: a kind of codec, see transport/README.md");
    list.code_bits(table + ".bits", options.bits, "grid, qsgd: width of a code; auto: qsgd 4, grid " + automatic);
    list.number(table + ".rate", options.rate, {0, 16},
                "bits a coordinate on the wire. eden, trellis: exactly (0: 1); grid: what its step is moved to from "
                "round to round (0: 0.25, more for small models, unless precision.uplink_noise decides)");
    list.choice(table + ".coder", options.coder,
                {{"context", "an adaptive range coder with contexts: the fewest bytes"},
                 {"zstd", "zstd where that is shorter than packed"},
                 {"packed", "at the width of the largest code: the fastest"},
                 {"auto", "context or packed, whichever is sooner through `bandwidth`"}},
                "grid: how integers become bytes");
    list.number(table + ".bandwidth", options.bandwidth, kNotNegative,
                "Mb/s of a client's link, for the coder \"auto\"; 0: not known");
    list.number(table + ".share", options.share, kShare, "topk: the share of the coordinates that is sent");
    list.choice(table + ".feedback", options.feedback,
                {{"auto", "on for biased codecs"}, {"on", "always"}, {"off", "never"}},
                "error feedback: what encoding lost is added to the next update");
}

void declare_job(OptionList& list, Job& job) {
    list.text("job.name", job.job.name, "names the run in reports");
    list.integer("job.seed", job.job.seed, 0, "the key of every random number of the run");
    list.integer("job.rounds", job.job.rounds, 1, "rounds of federated training");
    list.integer("job.evaluate_every", job.job.evaluate_every, 1, "rounds between tests; the last is always tested");
    detail::declare_data(list, job.data);
}

void declare_training(OptionList& list, Job& job) {
    list.choice("model.name", job.model.name, model_choices(), "the network");
    list.widths("model.hidden", job.model.hidden, "mlp: widths of the hidden layers");
    detail::declare_enum(list, "model.norm_statistics", job.model.norm_statistics, norm_statistics_choices(),
                         "what batch norm normalizes by, where clients' data differ");
    list.add(detail::layers_option("model.layers", job.model.layers));

    TrainOptions& train = job.train;
    list.integer("train.epochs", train.epochs, 1, "local epochs a round");
    list.integer("train.batch_size", train.batch_size, 1, 1 << 20, "samples of an optimizer step");
    list.choice("train.loss", train.loss, loss_choices(), "what training makes small");
    list.number("train.label_smoothing", train.label_smoothing, kDecay,
                "cross_entropy: share of the target that is spread over all classes");
    list.number("train.proximal", train.proximal, kNotNegative,
                "FedProx: mu / 2 * |w - w_received|^2 is added to the loss; 0: none");
    list.number("train.clip_norm", train.clip_norm, kNotNegative, "largest norm of the whole gradient; 0: any");
    list.flag("train.master_weights", train.master_weights,
              "keep fp32 weights beside the codes; false: each step rounds the weights to the plan's forward bits, by "
              "chance");
    list.integer("train.swa_start", train.swa_start, 0,
                 "average the models of the rounds from this one on (SWA); 0: do not");
    OptimizerOptions& optimizer = train.optimizer;
    list.choice("train.optimizer.kind", optimizer.kind, optimizer_choices(), "the local optimizer");
    list.number("train.optimizer.lr", optimizer.lr, kPositive, "learning rate");
    list.number("train.optimizer.momentum", optimizer.momentum, kDecay, "sgd: share of the velocity that is kept");
    list.flag("train.optimizer.nesterov", optimizer.nesterov, "sgd: Nesterov's momentum");
    list.number("train.optimizer.beta1", optimizer.beta1, kDecay, "adam, adamw: decay of the first moment");
    list.number("train.optimizer.beta2", optimizer.beta2, kDecay, "adam, adamw: decay of the second moment");
    list.number("train.optimizer.epsilon", optimizer.epsilon, kPositive, "adam, adamw: added to the denominator");
    list.number("train.optimizer.weight_decay", optimizer.weight_decay, kNotNegative,
                "times w, added to the gradient; adamw: taken from w instead");

    ScheduleOptions& schedule = train.schedule;
    list.choice("train.schedule.kind", schedule.kind, schedule_choices(), "the learning rate over the run");
    list.number("train.schedule.warmup_rounds", schedule.warmup_rounds, kNotNegative, "rounds of linear warm-up");
    list.number("train.schedule.every_rounds", schedule.every_rounds, kPositive, "step: rounds between steps");
    list.number("train.schedule.factor", schedule.factor, kShare, "step: on the rate, at each step");
    list.number("train.schedule.floor", schedule.floor, {0, 1}, "cosine: share of the rate at the end");
    list.choice("train.loss_scale.kind", train.loss_scale.kind, loss_scale_choices(),
                "what the loss is multiplied by, so that small gradients do not vanish");
    list.number("train.loss_scale.value", train.loss_scale.value, {0, 1e38, true},
                "static: the factor; dynamic: the first one");
}

void declare_profiled_noise(OptionList& list, NoiseOptions& noise) {
    list.integer("noise.bits", noise.bits, 2, 8,
                 "differential, naive, dither, drop_in: the target width whose rounding error the noise imitates");
    list.number("noise.drop_in", noise.drop_in, {0, 1},
                "share of the activations that get noise like the rounding error of their layer's input");
    list.integer("noise.calibration", noise.calibration, 1, 1 << 20,
                 "a client's training images that rounding errors are measured on, in each epoch");
    list.number("noise.smoothing", noise.smoothing, kDecay,
                "weight of the past in the moving average of those errors over a client's epochs");
    list.choice("noise.ramp", noise.ramp, ramp_choices(), "how noise sets in after the warm-up");
    list.number("noise.warmup_rounds", noise.warmup_rounds, kNotNegative, "rounds without noise");
    list.number("noise.ramp_rounds", noise.ramp_rounds, kPositive, "rounds from no noise to all of it");
}

/// Every key of a job file, in the order of the resolved one. Add an option here and nowhere else.
OptionList declare(Job& job) {
    OptionList list;
    declare_job(list, job);
    detail::declare_federation(list, job.federation);
    declare_training(list, job);
    detail::declare_precision(list, job.precision);
    detail::declare_quantize(list, "quantize.", job.quantize);
    list.add(detail::overrides_option("quantize.layers", job.quantize.layers));
    list.choice("noise.kind", job.noise.kind, noise_choices(), "added to the weights of a training step");
    list.number("noise.sigma", job.noise.sigma, kNotNegative, "gaussian: standard deviation");
    list.number("noise.xi_scaling", job.noise.xi_scaling, kNotNegative, "xi: sigma = 4/3 * 1e-4 * xi_scaling");
    declare_profiled_noise(list, job.noise);
    declare_codec(list, "codec.uplink", job.codec.uplink, "chosen each round from the last round's updates");
    list.flag("codec.uplink.measure", job.codec.measure_uplink,
              "clients decode what they send and report its relative squared error, which changes no model");
    declare_codec(list, "codec.downlink", job.codec.downlink, "8 of a model, of a delta as the uplink");
    list.choice(
        "codec.downlink.of", job.codec.downlink_of,
        {{"delta", "what changed since the model that the client holds"}, {"model", "the whole model, every round"}},
        "what is sent to a client");
    list.choice("compute.backend", job.compute.backend, backend_choices(), "who multiplies matrices");
    list.text("output.dir", job.output.dir, "the folder for everything that the run leaves");
    list.flag("output.pictures", job.output.pictures, "draw accuracy and precision as PNG, if gnuplot is there");
    return list;
}

/// A text that sets options, and how to point into it.
struct Source {
    std::string name;
    bool has_lines;

    std::string at(const toml::source_region& region) const {
        return has_lines ? fmt::format("{}:{}:{}", name, region.begin.line, region.begin.column) : name;
    }
};

bool take(Option& option, const toml::node& node, const Source& source) {
    try {
        return option.assign(node);
    } catch (const detail::NodeError& error) {
        throw InputError(fmt::format("{}: {}", source.at(error.where), error.message));
    }
}

void assign(Option& option, const toml::node& node, const Source& source) {
    if (!take(option, node, source))
        throw InputError(fmt::format("{}: {}: expected {}, found {}", source.at(node.source()), option.key,
                                     option.expected, detail::describe(node)));
    option.where = source.at(node.source());
}

void apply_node(OptionList& options, const std::string& name, const toml::key& key, const toml::node& node,
                const Source& source);

void apply_table(OptionList& options, const std::string& prefix, const toml::table& table, const Source& source) {
    for (const auto& [key, node] : table)
        apply_node(options, prefix + std::string(key.str()), key, node, source);
}

void apply_node(OptionList& options, const std::string& name, const toml::key& key, const toml::node& node,
                const Source& source) {
    if (Option* option = options.find(name)) {
        assign(*option, node, source);
    } else if (!options.is_table(name)) {
        throw InputError(fmt::format("{}: unknown key {}; the nearest known one is {}", source.at(key.source()), name,
                                     options.nearest(name)));
    } else if (const toml::table* inner = node.as_table()) {
        apply_table(options, name + '.', *inner, source);
    } else if (Option* kind = options.find(name + ".kind"); kind != nullptr && node.is_string()) {
        assign(*kind, node, source);  // strategy = "fedavg" is short for strategy = { kind = "fedavg" }
    } else {
        throw InputError(
            fmt::format("{}: {}: expected a table, found {}", source.at(node.source()), name, detail::describe(node)));
    }
}

/// toml++ 3.3 destroys tables recursively: a key of 50,000 parts would overflow the stack.
constexpr std::size_t kMostDots = 5000;

toml::table parse_toml(std::string_view text, const Source& source) {
    if (detail::joining_dots(text) > kMostDots)
        throw InputError(fmt::format("{}: more than {} dots outside of numbers", source.name, kMostDots));
    try {
        return toml::parse(text);
    } catch (const toml::parse_error& error) {
        throw InputError(fmt::format("{}: {}", source.at(error.source()), error.description()));
    }
}

/// "section.key=value" is TOML as it stands, or once a bare value is quoted.
toml::table parse_override(const std::string& text, const Source& source) {
    const std::size_t equals = text.find('=');
    if (equals == 0 || equals == std::string::npos || text.find_first_of("\r\n") != std::string::npos)
        throw InputError(fmt::format("{}: expected section.key=value", source.name));
    const std::size_t start = text.find_first_not_of(" \t", equals + 1);
    const std::string value = start == std::string::npos ? "" : text.substr(start);
    try {
        return toml::parse(text);
    } catch (const toml::parse_error&) {
        const bool bare = value.empty() || std::string_view("\"'[{").find(value.front()) == std::string_view::npos;
        return parse_toml(bare ? text.substr(0, equals + 1) + toml_text(value) : text, source);
    }
}

/// A job that lists layers means them, unless it names another model.
void choose_listed_layers(Job& job, OptionList& options) {
    Option& name = *options.find("model.name");
    if (job.model.layers.empty() || name.where != Option{}.where)
        return;
    job.model.name = "layers";
    name.where = options.find("model.layers")->where;
}

bool is_learned_weights(const std::pair<std::string, std::string>& setting) {
    return setting.first == "weights.observer" && setting.second.starts_with("\"lsq");
}

/// Whether some layer's weights lie on a grid that is trained.
bool learns_weight_grid(const QuantizeOptions& quantize) {
    return is_learned(quantize.weights.observer) ||
           std::ranges::any_of(quantize.layers, [](const LayerOverride& layer) {
               return std::ranges::any_of(layer.settings, is_learned_weights);
           });
}

/// Whether values of a quantizer are never rounded to integers, whatever the policy decides.
bool learns_nothing(const QuantizerOptions& options, const PrecisionOptions& precision) {
    if (precision.policy == "fp32" || precision.levels == std::vector{kFullBits})
        return true;
    const int planned = precision.policy == "uniform" ? precision.bits : precision.policy == "amp" ? 16 : 0;
    const int bits = width_of(options, planned);
    return bits != 0 && !is_integer_width(options, bits);
}

void check_overrides(const Job& job, const Combinations& combinations) {
    QuantizeOptions alone = job.quantize;
    for (const LayerOverride& override : job.quantize.layers) {
        combinations.forbid(override.settings.empty(), {"quantize.layers"}, "an override with nothing but a match");
        alone.layers = {{.match = "*", .settings = override.settings}};
        const QuantizeOptions resolved = options_for(alone, "");
        for (const QuantizerOptions* options : {&resolved.weights, &resolved.activations})
            combinations.forbid(is_learned(options->observer) && learns_nothing(*options, job.precision),
                                {"quantize.layers", "precision.policy", "precision.bits"},
                                "a range is learned where values are rounded to integers, and at these bits none are");
    }
}

void check_training(const Job& job, const Combinations& combinations) {
    const TrainOptions& train = job.train;
    combinations.forbid(train.label_smoothing > 0 && train.loss == "mse", {"train.label_smoothing", "train.loss"},
                        "label smoothing is for classes, and mse has none");
    combinations.forbid(train.schedule.warmup_rounds >= job.job.rounds, {"train.schedule.warmup_rounds", "job.rounds"},
                        "the run ends before the learning rate has warmed up");
    combinations.forbid(job.noise.warmup_rounds >= job.job.rounds, {"noise.warmup_rounds", "job.rounds"},
                        "the run ends before noise sets in");
    combinations.forbid(train.swa_start > job.job.rounds, {"train.swa_start", "job.rounds"},
                        "the run ends before the averaging of models starts");
    combinations.forbid(!train.master_weights && learns_weight_grid(job.quantize),
                        {"train.master_weights", "quantize.weights.observer", "quantize.layers"},
                        "a trained step size moves between two steps, and weights without fp32 masters cannot follow");
}

/// Whether the policy's plans say how wide the uplink's codes are.
bool rules_uplink(const PrecisionOptions& precision) {
    return make_policy(precision, Schema())->rules_uplink();
}

void check_precision(const Job& job, const Combinations& combinations) {
    const PrecisionOptions& precision = job.precision;
    const auto is_level = [&](int bits) { return std::ranges::find(precision.levels, bits) != precision.levels.end(); };
    const bool uniform = precision.policy == "uniform";
    combinations.forbid(uniform && !is_level(precision.bits), {"precision.bits", "precision.levels"},
                        "the bits of the uniform policy are none of the levels");
    combinations.forbid(uniform && precision.backward_bits != 0 && !is_level(precision.backward_bits),
                        {"precision.backward_bits", "precision.levels"},
                        "the backward bits of the uniform policy are none of the levels");
    combinations.forbid(!uniform && precision.backward_bits != 0, {"precision.backward_bits", "precision.policy"},
                        "only the uniform policy is told its backward bits, the others decide them");
    combinations.forbid(precision.policy == "amp" && !is_level(16), {"precision.policy", "precision.levels"},
                        "mixed precision takes 16 bits forward, which are none of the levels");
    combinations.forbid(precision.bit_budget > 0 && precision.bit_budget < precision.levels.front(),
                        {"precision.bit_budget", "precision.levels"}, "the budget is below the lowest level");
    const bool predicts = precision.policy == "numgeom" || precision.policy == "learned" || precision.policy == "hawq";
    const auto rounds_floats = [](const QuantizerOptions& options) { return options.format8 != Format8::int8; };
    combinations.forbid((predicts || precision.bit_budget > 0) &&
                            (rounds_floats(job.quantize.weights) || rounds_floats(job.quantize.activations) ||
                             rounds_floats(job.quantize.gradients)),
                        {"precision.policy", "precision.bit_budget", "quantize.format8"},
                        "errors are predicted for integers of 8 bits, and floats of 8 bits err otherwise");
    combinations.forbid(precision.guard_loss > 0 && precision.guard_loss <= 1, {"precision.guard_loss"},
                        "a round as good as the best one would be rolled back; 0 turns the guard off");
    combinations.forbid((job.codec.uplink.bits != 0 || job.codec.uplink.rate != 0) && rules_uplink(precision),
                        {"codec.uplink.bits", "codec.uplink.rate", "precision.policy"},
                        "this policy decides the bits of the uplink, which must be \"auto\"");
}

void check_codecs(const Job& job, const Combinations& combinations) {
    const CodecPair& codec = job.codec;
    combinations.forbid(job.precision.uplink_noise != 0 && (codec.uplink.rate != 0 || codec.downlink.rate != 0),
                        {"precision.uplink_noise", "codec.uplink.rate", "codec.downlink.rate"},
                        "noise or a rate decides the grids");
    combinations.forbid(codec.uplink.bits != 0 && codec.uplink.rate != 0, {"codec.uplink.bits", "codec.uplink.rate"},
                        "one of both decides the grid");
    combinations.forbid(codec.downlink.bits != 0 && codec.downlink.rate != 0,
                        {"codec.downlink.bits", "codec.downlink.rate"}, "one of both decides the grid");
    const std::string& kind = codec.downlink.kind;
    combinations.forbid(
        codec.downlink_of == "model" && kind != "raw" && kind != "fp16" && kind != "bf16" && kind != "grid",
        {"codec.downlink.kind", "codec.downlink.of"}, "this codec is for what changed, whose errors average out");
}

void check_devices(const Job& job, const Combinations& combinations) {
    for (const DeviceOptions& device : job.federation.devices)
        combinations.forbid(!executes_fixed_bits(device.widths, job.quantize),
                            {"federation.devices", "quantize.weights.bits", "quantize.activations.bits",
                             "quantize.gradients.bits", "quantize.optimizer_bits", "quantize.layers"},
                            "a device does not execute the bits that are fixed for every client");
}

void check_combinations(const Job& job, const Combinations& combinations) {
    check_codecs(job, combinations);
    combinations.forbid((job.model.name == "layers") == job.model.layers.empty(), {"model.name", "model.layers"},
                        "the model \"layers\" is a list of layers, and no other one has any");
    check_federation(job, combinations);
    const bool regression = is_regression(job.data);
    combinations.forbid(regression && job.train.loss != "mse", {"train.loss", "data.task"},
                        "regression is trained with the loss \"mse\"");
    combinations.forbid(!regression && job.train.loss == "mse", {"train.loss", "data.format", "data.task"},
                        "labels are trained with the loss \"cross_entropy\"");
    const bool table = job.data.format == "csv" || job.data.format == "libsvm";
    combinations.forbid(job.data.augment != Augmentation::none && table, {"data.augment", "data.format"},
                        "only images are augmented, and a table has none");
    const OptimizerOptions& optimizer = job.train.optimizer;
    combinations.forbid(optimizer.nesterov && (optimizer.kind != "sgd" || optimizer.momentum <= 0),
                        {"train.optimizer.nesterov", "train.optimizer.kind", "train.optimizer.momentum"},
                        "nesterov needs sgd with momentum > 0");
    check_training(job, combinations);
    check_precision(job, combinations);
    check_devices(job, combinations);
    for (const auto& [key, options] : {std::pair{"quantize.weights.observer", &job.quantize.weights},
                                       std::pair{"quantize.activations.observer", &job.quantize.activations}})
        combinations.forbid(is_learned(options->observer) && learns_nothing(*options, job.precision),
                            {key, "precision.policy", "precision.bits"},
                            "a range is learned where values are rounded to integers, and at these bits none are");
    check_overrides(job, combinations);
    const QuantizerOptions& activations = job.quantize.activations;
    combinations.forbid((activations.observer == Observer::lsq_plus || activations.observer == Observer::pact) &&
                            activations.symmetry == Symmetry::symmetric,
                        {"quantize.activations.observer", "quantize.activations.scheme"},
                        "an offset, or an upper clip alone, is learned for affine schemes only");
}

/// The options that pass `keep`, as TOML: a section for each first part of a key, an inline table for each second one.
template <typename Keep>
std::string write_toml(std::span<const Option> options, Keep keep) {
    std::string text, section, table;
    const auto close_table = [&] { text += table.empty() ? "" : " }\n"; };
    for (const Option& option : options) {
        if (!keep(option.key))
            continue;
        const std::size_t first = option.key.find('.');
        const std::size_t last = option.key.rfind('.');
        const std::string new_section = option.key.substr(0, first);
        const std::string new_table = first == last ? "" : option.key.substr(first + 1, last - first - 1);
        const bool same_table = new_section == section && new_table == table && !table.empty();
        if (!same_table)
            close_table();
        if (new_section != section)
            text += fmt::format("{}[{}]\n", text.empty() ? "" : "\n", new_section);
        if (!new_table.empty())
            text += same_table ? ", " : new_table + " = { ";
        text += fmt::format("{} = {}{}", option.key.substr(last + 1), option.text(), new_table.empty() ? "\n" : "");
        section = new_section;
        table = new_table;
    }
    close_table();
    return text;
}

std::string read_file(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file || std::filesystem::is_directory(path))
        throw InputError(fmt::format("{}: cannot read the job file", path));
    return {std::istreambuf_iterator<char>(file), {}};
}

/// Whether a round's results depend on how many there are: the cosine goes down to the last one.
bool depends_on_length(const Job& job) {
    return job.train.schedule.kind == "cosine";
}

}  // namespace

Job load_job(const std::string& path, std::span<const std::string> overrides) {
    return parse_job(read_file(path), path, overrides);
}

Job parse_job(std::string_view toml, const std::string& source, std::span<const std::string> overrides) {
    Job job;
    OptionList options = declare(job);
    const Source file{source, true};
    apply_table(options, "", parse_toml(toml, file), file);
    for (const std::string& text : overrides) {
        const Source override_source{"--set " + text, false};
        apply_table(options, "", parse_override(text, override_source), override_source);
    }
    choose_listed_layers(job, options);
    check_combinations(job, Combinations(options, source));
    return job;
}

std::string to_toml(const Job& job) {
    Job copy = job;
    return write_toml(declare(copy).all(), [](std::string_view) { return true; });
}

Sha256 identity(const Job& job) {
    Job copy = job;
    return sha256(write_toml(declare(copy).all(), [&job](std::string_view key) {
        return !key.starts_with("output.") && !key.starts_with("compute.") && key != "codec.uplink.measure" &&
               (key != "job.rounds" || depends_on_length(job));
    }));
}

std::string describe_options() {
    Job defaults;
    const OptionList options = declare(defaults);
    std::string text;
    for (const Option& option : options.all()) {
        text += fmt::format("{} = {}\n    {}\n    {}\n", option.key, option.text(), option.meaning, option.expected);
        for (const Choice& choice : option.choices)
            text += fmt::format("        {}: {}\n", choice.name, choice.meaning);
        if (option.key == "model.layers")
            text += detail::describe_layers();
        if (option.key == "federation.devices")
            text += detail::describe_devices();
    }
    return text;
}

}  // namespace dither
