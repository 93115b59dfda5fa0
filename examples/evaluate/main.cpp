// dither-evaluate: what a trained model is worth at full precision, in few bits and on spoilt images, and what it
// costs.
#include <CLI/CLI.hpp>
#include <iostream>

#include "core/config.hpp"
#include "core/error.hpp"
#include "core/version.hpp"
#include "examples/evaluate/evaluation.hpp"

namespace dither {
namespace {

constexpr int kFailed = 1;
constexpr int kBadInput = 2;

std::string version_text() {
    const auto backend = make_backend(ComputeOptions{});
    return fmt::format("dither-evaluate {} ({}, {})", version(), backend->name(), backend->instruction_set());
}

/// Widths that an operand may have.
std::string check_width(const std::string& text) {
    int bits = 0;
    if (CLI::detail::lexical_cast(text, bits) && ((bits >= 2 && bits <= 16) || bits == 32))
        return "";
    return fmt::format("expected bits, 2 .. 16 or 32, found {}", text);
}

/// Empty when the program should go on; otherwise its exit code.
std::optional<int> parse(int argc, char** argv, EvaluateOptions& options) {
    CLI::App app(
        "Evaluates a trained model at full precision and quantized: accuracy and loss, also on corrupted images; "
        "bits,\n"
        "bytes, speed on this processor, bit-operations and an estimate of the energy.\n"
        "MODEL is a run's model.dither, or a model that --convert wrote.");
    app.footer(
        "A checkpoint is quantized as its run was, unless --weights or --activations say otherwise; then the other\n"
        "operand stays in fp32 if it is not mentioned. Ranges of activations are learnt from training samples and "
        "then\n"
        "hold still (post-training quantization), unless they were trained with the weights.\n"
        "\nExamples:\n"
        "  dither-evaluate runs/fashion-cnn2/model.dither\n"
        "  dither-evaluate runs/fashion-cnn2/model.dither --weights 4 --activations 8 --observer mse --corrupt all=3\n"
        "  dither-evaluate runs/fashion-cnn2/model.dither --weights 8 --activations 8 --convert small.dither\n"
        "  dither-evaluate small.dither --data /usr/share/datasets/fashion-mnist --json\n"
        "\nExit codes: 0 done, 1 failed while running or not bit-exact, 2 bad usage or input.");
    const CLI::Validator width(check_width, "BITS");
    std::vector<std::string> corruptions;
    bool no_average = false;
    app.add_option("MODEL", options.model, "The model file")->required();
    app.add_option("--data", options.data, "Where the data are (default: where the run had them)")->type_name("PATH");
    app.add_option("--set", options.overrides, "Override one key of the job: section.key=value")
        ->type_name("K=V")
        ->allow_extra_args(false);
    app.add_option("--weights", options.weights, "Bits of the weights: 2 .. 16, or 32 for fp32")->check(width);
    app.add_option("--activations", options.activations, "Bits of the activations: 2 .. 16, or 32 for fp32")
        ->check(width);
    app.add_option("--scheme", options.scheme, "Which weights share a scale: per_channel_symmetric, ...")
        ->type_name("NAME");
    app.add_option("--observer", options.observer,
                   "How ranges are found: minmax, moving_average_minmax, percentile or mse")
        ->type_name("NAME");
    app.add_option("--calibration", options.calibration,
                   fmt::format("Training samples that the ranges are learnt from ({})", kCalibrationSamples))
        ->check(CLI::Range(1U, 1U << 20));
    app.add_option("--corrupt", corruptions,
                   "Also evaluate on corrupted test images: gaussian_noise, blur, contrast, brightness, shift or all, "
                   "and a severity of 1 .. 5")
        ->type_name("KIND=SEVERITY")
        ->allow_extra_args(false);
    app.add_flag("--no-average", no_average, "Take the last model even where the run averaged models");
    app.add_option("--convert", options.convert, "Write the integer model, if every test sample proves it bit-exact")
        ->type_name("FILE");
    app.add_option("--errors", options.errors, "Measure the rounding errors of weights and activations at so many bits")
        ->type_name("BITS")
        ->check(CLI::Range(2, 8));
    app.add_option("--flatness", options.flatness,
                   "Measure the loss along so many random directions, and the Hessian of each layer")
        ->type_name("DIRECTIONS")
        ->check(CLI::Range(1U, 1000U));
    app.add_flag("--json", options.json, "One JSON object instead of tables");
    app.add_option("--batch", options.batch, "Samples at once, for the throughput")
        ->capture_default_str()
        ->check(CLI::Range(1, 1 << 16));
    app.add_option("--limit", options.limit, "Use at most so many test samples, the first ones (0: all)")
        ->capture_default_str()
        ->check(CLI::NonNegativeNumber);
    app.set_version_flag("--version", version_text);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        const bool asked = error.get_exit_code() == 0;  // --help or --version
        app.exit(error, std::cout, std::cerr);
        return asked ? 0 : kBadInput;
    }
    options.average = !no_average;
    for (const std::string& text : corruptions)
        for (const Corruption& corruption : parse_corruption(text))
            options.corruptions.push_back(corruption);
    return std::nullopt;
}

int run(int argc, char** argv) {
    EvaluateOptions options;
    if (const auto exit_code = parse(argc, argv, options))
        return *exit_code;
    const Report report = evaluate_file(options);
    std::cout << (options.json ? to_json(report) : to_table(report));
    if (report.conversion && report.conversion->identical != report.conversion->samples) {
        fmt::print(stderr, "dither-evaluate: {} was not written: {} of {} samples differ from the quantized model\n",
                   options.convert, report.conversion->samples - report.conversion->identical,
                   report.conversion->samples);
        return kFailed;
    }
    return 0;
}

/// Prints what went wrong and says how the program ends.
int report_error(const std::exception& error, int exit_code) {
    std::cerr << "dither-evaluate: " << error.what() << '\n';
    return exit_code;
}

}  // namespace
}  // namespace dither

int main(int argc, char** argv) {
    using namespace dither;
    try {
        return run(argc, argv);
    } catch (const InputError& error) {
        return report_error(error, kBadInput);
    } catch (const FormatError& error) {  // a batch that an integer network has no room for
        return report_error(error, kBadInput);
    } catch (const std::exception& error) {
        return report_error(error, kFailed);
    }
}
