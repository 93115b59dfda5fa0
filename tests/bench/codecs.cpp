// Codecs side by side: bits on the wire, error and speed, as a table in Markdown.
//
//     dither-bench-codecs [--layers 1048576] [--values normal|lognormal|FILE...] [--before FILE] [--rates .5,1,2,3,4]
//                         [--draws N] [--mean N] [--only KIND...]
//
// --layers: the shapes of each layer's tensors, as 3x3x1x16+16,1568x128+128. FILE: one client's update, fp32,
// little-endian. --before: the decoded broadcast that all clients hold, by which the grid's context coder codes. Rows:
// bits a coordinate of whole payloads; vNMSE = ||x^ - x||^2 / ||x||^2, its mean over draws or files and the mean's
// standard error; the same of the sum of all of them; MB/s of fp32 on one core, from the processor time of the median
// draw. --mean: instead, N clients send the same values: N * NMSE of their mean over their vNMSE, which is 1 without
// bias.
#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <fstream>
#include <iostream>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "core/config.hpp"
#include "core/error.hpp"
#include "core/little_endian.hpp"
#include "core/vector_math.hpp"
#include "transport/codec.hpp"
#include "transport/expectation.hpp"

namespace dither {
namespace {

constexpr std::size_t kHeaderBytes = 10;  // of a layer of a grid payload

struct Options {
    std::string layers = "1048576";
    std::vector<std::string> values{"normal"};
    std::string before;
    std::vector<double> rates{0.5, 1, 2, 3, 4};
    std::uint32_t draws = 5;
    std::uint32_t mean = 0;
    std::vector<std::string> only;
};

std::vector<std::string> split(const std::string& text, char separator) {
    std::vector<std::string> parts;
    std::stringstream stream(text);
    for (std::string part; std::getline(stream, part, separator);)
        parts.push_back(part);
    return parts;
}

Schema schema_of(const std::string& layers) {
    std::vector<LayerSpec> specs;
    std::size_t offset = 0;
    for (const std::string& layer : split(layers, ',')) {
        LayerSpec spec{.name = fmt::format("layer{}", specs.size() + 1), .offset = offset};
        for (const std::string& tensor : split(layer, '+')) {
            std::int64_t rows = 1;  // all extents but the last: what codecs see of a shape is a matrix
            std::int64_t columns = 1;
            for (const std::string& extent : split(tensor, 'x')) {
                rows *= columns;
                columns = std::stoll(extent);
            }
            const Shape shape = tensor.find('x') == std::string::npos ? Shape{columns} : Shape{rows, columns};
            spec.tensors.push_back({tensor, shape, offset});
            offset += static_cast<std::size_t>(shape.count());
        }
        spec.count = offset - spec.offset;
        specs.push_back(std::move(spec));
    }
    return Schema(std::move(specs));
}

std::vector<float> read_floats(const std::string& path, std::size_t count) {
    std::ifstream file(path, std::ios::binary);
    std::vector<char> bytes(count * sizeof(float) + 1);
    file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    if (file.gcount() != static_cast<std::streamsize>(count * sizeof(float)))
        throw InputError(fmt::format("{}: expected {} floats, as the layers have", path, count));
    std::vector<float> values(count);
    for (std::size_t i = 0; i < count; ++i)
        values[i] = load_little<float>(reinterpret_cast<const std::byte*>(bytes.data()) + i * sizeof(float));
    return values;
}

std::vector<float> drawn(const std::string& name, std::size_t count, std::uint32_t draw) {
    std::vector<float> values(count);
    Stream({.seed = draw, .purpose = Purpose::test}).fill_normal(values);
    if (name == "lognormal")
        exponentials(values, values);
    return values;
}

std::vector<std::vector<float>> updates_of(const Options& options, std::size_t count) {
    std::vector<std::vector<float>> updates;
    for (const std::string& name : options.values)
        if (name != "normal" && name != "lognormal")
            updates.push_back(read_floats(name, count));
        else
            for (std::uint32_t draw = 0; draw < options.draws; ++draw)
                updates.push_back(drawn(name, count, draw));
    return updates;
}

struct Contender {
    CodecOptions options;
    std::string setting;
};

std::vector<Contender> contenders(const Options& options) {
    std::vector<Contender> all{{{.kind = "raw"}, ""}, {{.kind = "fp16"}, ""}, {{.kind = "bf16"}, ""}};
    for (const double rate : options.rates)
        for (const char* coder : {"packed", "zstd", "context"})
            all.push_back({{.kind = "grid", .rate = rate, .coder = coder}, fmt::format("{} bits, {}", rate, coder)});
    for (const char* kind : {"eden", "trellis"})
        for (const double rate : options.rates)
            all.push_back({{.kind = kind, .rate = rate}, fmt::format("{} bits", rate)});
    for (const int bits : {2, 4, 8})
        all.push_back({{.kind = "qsgd", .bits = bits}, fmt::format("{} bits", bits)});
    all.push_back({{.kind = "terngrad"}, ""});
    all.push_back({{.kind = "sign"}, ""});
    for (const double share : {0.01, 0.1})
        all.push_back({{.kind = "topk", .share = share}, fmt::format("{} of the coordinates", share)});
    if (!options.only.empty())
        std::erase_if(all, [&](const Contender& one) {
            return std::find(options.only.begin(), options.only.end(), one.options.kind) == options.only.end();
        });
    return all;
}

/// One contender, with all that both ends know.
class Trial {
public:
    Trial(const Contender& contender, const Schema& schema, const Expectation* expectation,
          const std::vector<float>& first)
        : codec_(make_codec(contender.options, schema)),
          steps_(schema.layer_count(), 1.0F),
          expectation_(expectation),
          decoded_(schema.parameters()) {
        if (codec_->needs_steps())
            find_step(first, contender.options.rate);
    }

    const std::vector<float>& run(const std::vector<float>& values, std::uint32_t client) {
        const Terms terms = terms_of(client);
        const std::clock_t begin = std::clock();
        codec_->encode(values, terms, payload_);
        const std::clock_t middle = std::clock();
        codec_->decode(payload_, terms, decoded_);
        encode_ticks_.push_back(static_cast<double>(middle - begin));
        decode_ticks_.push_back(static_cast<double>(std::clock() - middle));
        bytes_ += payload_.size();
        return decoded_;
    }

    double bits() const {
        return 8.0 * static_cast<double>(bytes_) / static_cast<double>(decoded_.size() * encode_ticks_.size());
    }
    double encode_rate() { return rate_of(encode_ticks_); }
    double decode_rate() { return rate_of(decode_ticks_); }

private:
    Terms terms_of(std::uint32_t client) const {
        return {.steps = steps_,
                .key = {.seed = 1, .purpose = Purpose::uplink_rounding, .client = client, .round = 2},
                .expectation = expectation_};
    }

    /// MB/s of fp32 in the median run.
    double rate_of(std::vector<double>& ticks) const {
        std::nth_element(ticks.begin(), ticks.begin() + static_cast<std::ptrdiff_t>(ticks.size() / 2), ticks.end());
        const double seconds = std::max(ticks[ticks.size() / 2], 1.0) / CLOCKS_PER_SEC;
        return static_cast<double>(decoded_.size() * sizeof(float)) / seconds / 1e6;
    }

    /// One step for all layers, the finest at which `values` take no more than the rate and the layers' headers.
    void find_step(const std::vector<float>& values, double rate) {
        double low = std::log2(root_mean_square(values)) - 20;
        double high = low + 40;
        while (high - low > 0.002) {
            const double middle = (low + high) / 2;
            std::fill(steps_.begin(), steps_.end(), static_cast<float>(std::exp2(middle)));
            codec_->encode(values, terms_of(0), payload_);
            const std::size_t coded = payload_.size() - std::min(payload_.size(), kHeaderBytes * steps_.size());
            const double bits = 8.0 * static_cast<double>(coded) / static_cast<double>(values.size());
            (bits > rate ? low : high) = middle;
        }
        std::fill(steps_.begin(), steps_.end(), static_cast<float>(std::exp2(high)));
    }

    std::unique_ptr<Codec> codec_;
    std::vector<float> steps_;
    const Expectation* expectation_;
    std::vector<std::byte> payload_;
    std::vector<float> decoded_;
    std::size_t bytes_ = 0;
    std::vector<double> encode_ticks_;
    std::vector<double> decode_ticks_;
};

/// Adds decoded - values to `sums`, and returns ||decoded - values||^2 / ||values||^2.
double add_error(const std::vector<float>& values, const std::vector<float>& decoded, std::vector<double>& sums) {
    double error = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
        const double difference = static_cast<double>(decoded[i]) - static_cast<double>(values[i]);
        sums[i] += difference;
        error += difference * difference;
    }
    return error / squared_norm(values);
}

struct Estimate {
    double mean = 0;
    double error = 0;  ///< its standard error; 0 of a single number
};

Estimate estimate_of(const std::vector<double>& numbers) {
    const auto count = static_cast<double>(numbers.size());
    Estimate estimate;
    for (const double number : numbers)
        estimate.mean += number / count;
    for (const double number : numbers)
        estimate.error += std::pow(number - estimate.mean, 2);
    estimate.error = count > 1 ? std::sqrt(estimate.error / (count - 1) / count) : 0;
    return estimate;
}

void compare(const Contender& contender, const Schema& schema, const Expectation* expectation,
             const std::vector<std::vector<float>>& updates) {
    Trial trial(contender, schema, expectation, updates.front());
    std::vector<double> errors;
    std::vector<double> error_sums(schema.parameters());
    std::vector<double> sums(schema.parameters());
    for (std::size_t i = 0; i < updates.size(); ++i) {
        errors.push_back(add_error(updates[i], trial.run(updates[i], static_cast<std::uint32_t>(i)), error_sums));
        for (std::size_t j = 0; j < sums.size(); ++j)
            sums[j] += static_cast<double>(updates[i][j]);
    }
    const Estimate vnmse = estimate_of(errors);
    fmt::print("| {} | {} | {:.4f} | {:.5g} +- {:.2g} | {:.4g} | {:.0f} | {:.0f} |\n", contender.options.kind,
               contender.setting, trial.bits(), vnmse.mean, vnmse.error, squared_norm(error_sums) / squared_norm(sums),
               trial.encode_rate(), trial.decode_rate());
}

/// For each update apart, then over updates.
void average(const Contender& contender, const Schema& schema, const Expectation* expectation,
             const std::vector<std::vector<float>>& updates, std::uint32_t clients) {
    Trial trial(contender, schema, expectation, updates.front());
    std::vector<double> errors;
    std::vector<double> ratios;
    for (const std::vector<float>& values : updates) {
        std::vector<double> sums(schema.parameters());
        double single = 0;
        for (std::uint32_t client = 0; client < clients; ++client)
            single += add_error(values, trial.run(values, client), sums) / clients;
        errors.push_back(single);
        ratios.push_back(squared_norm(sums) / clients / squared_norm(values) / single);
    }
    const Estimate vnmse = estimate_of(errors);
    const Estimate ratio = estimate_of(ratios);
    fmt::print("| {} | {} | {:.4f} | {:.5g} +- {:.2g} | {:.5g} | {:.4f} +- {:.4f} |\n", contender.options.kind,
               contender.setting, trial.bits(), vnmse.mean, vnmse.error, ratio.mean * vnmse.mean, ratio.mean,
               ratio.error);
}

void run(const Options& options) {
    const Schema schema = schema_of(options.layers);
    const auto updates = updates_of(options, schema.parameters());
    std::optional<Expectation> expectation;
    if (!options.before.empty())
        expectation.emplace(schema, read_floats(options.before, schema.parameters()));
    fmt::print("{} parameters, {} updates\n\n", schema.parameters(), updates.size());
    if (options.mean > 0)
        fmt::print("| codec | | bits | vNMSE | n * NMSE of the mean, n = {} | ratio |\n|---|---|---|---|---|---|\n",
                   options.mean);
    else
        fmt::print(
            "| codec | | bits | vNMSE | NMSE of the sum | encode MB/s | decode MB/s |\n"
            "|---|---|---|---|---|---|---|\n");
    for (const Contender& contender : contenders(options)) {
        if (options.mean > 0)
            average(contender, schema, expectation ? &*expectation : nullptr, updates, options.mean);
        else
            compare(contender, schema, expectation ? &*expectation : nullptr, updates);
        std::cout.flush();
    }
}

}  // namespace
}  // namespace dither

int main(int argc, char** argv) {
    dither::Options options;
    CLI::App app("Codecs side by side, as a table in Markdown.");
    app.add_option("--layers", options.layers, "shapes of each layer's tensors: 3x3x1x16+16,1568x128+128")
        ->capture_default_str();
    app.add_option("--values,--update", options.values, "normal, lognormal or files of fp32")->capture_default_str();
    app.add_option("--before", options.before, "file of the broadcast that clients hold, for the context coder");
    app.add_option("--rates", options.rates, "bits a coordinate of grid, eden and trellis")->delimiter(',');
    app.add_option("--draws", options.draws, "of normal and lognormal")->check(CLI::PositiveNumber);
    app.add_option("--mean", options.mean, "clients that send the same values: the error of their mean");
    app.add_option("--only", options.only, "kinds of codecs");
    CLI11_PARSE(app, argc, argv);
    try {
        dither::run(options);
        return 0;
    } catch (const std::exception& error) {
        std::cerr << "dither-bench-codecs: " << error.what() << '\n';
        return 1;
    }
}
