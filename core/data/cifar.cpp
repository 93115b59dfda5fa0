#include "core/data/detail/binary_file.hpp"
#include "core/data/detail/images.hpp"
#include "core/data/detail/readers.hpp"
#include "core/error.hpp"

#include <algorithm>
#include <array>
#include <filesystem>
#include <optional>
#include <string_view>
#include <utility>

namespace dither::detail {
namespace {

// A CIFAR file is records without a header: the label bytes, then the red, the green and the blue plane of an image,
// each row by row.
constexpr std::int64_t kSide = 32;
constexpr std::int64_t kChannels = 3;
constexpr std::size_t kPlane = kSide * kSide;
constexpr std::size_t kImage = kPlane * kChannels;

struct Label {
    std::string_view name;
    int classes;
};

/// What tells CIFAR-10 from CIFAR-100.
struct Variant {
    std::string_view name;
    std::string_view subfolder;  ///< that its archive unpacks to
    std::span<const std::string_view> train;
    std::string_view test;
    std::span<const Label> labels;  ///< a byte each, in the order of the record

    std::size_t record_bytes() const { return labels.size() + kImage; }
};

constexpr std::array<std::string_view, 5> kBatches{"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin",
                                                   "data_batch_4.bin", "data_batch_5.bin"};
constexpr std::array<std::string_view, 1> kTrain{"train.bin"};
constexpr std::array kLabel{Label{"label", 10}};
constexpr std::array kCoarseAndFine{Label{"coarse", 20}, Label{"fine", 100}};
constexpr std::array kVariants{
    Variant{"CIFAR-10", "cifar-10-batches-bin", kBatches, "test_batch.bin", kLabel},
    Variant{"CIFAR-100", "cifar-100-binary", kTrain, "test.bin", kCoarseAndFine},
};

/// A set found on the disk.
struct Source {
    const Variant* variant = nullptr;
    std::string folder;
    std::vector<std::string> train;  ///< paths, at least one
};

std::optional<Source> find_variant(const Variant& variant, const std::string& folder) {
    Source source{&variant, folder, {}};
    for (const std::string_view name : variant.train)
        if (const auto path = find_plain_or_gz(folder, std::string(name)))
            source.train.push_back(*path);
    if (source.train.empty())
        return std::nullopt;
    return source;
}

Source find_source(const std::string& folder) {
    std::vector<Source> found;
    for (const Variant& variant : kVariants)
        for (const std::string& place : {folder, (std::filesystem::path(folder) / variant.subfolder).string()})
            if (std::optional<Source> source = find_variant(variant, place))
                found.push_back(std::move(*source));
    if (found.empty())
        throw InputError(
            fmt::format("{}: expected data_batch_1.bin .. data_batch_5.bin (CIFAR-10) or train.bin (CIFAR-100), each "
                        "plain or with .gz, there or in the subfolder {} or {}, found none of them",
                        folder, kVariants[0].subfolder, kVariants[1].subfolder));
    if (found.size() > 1)
        throw InputError(fmt::format("{}: expected one set, found {} in {} and {} in {}: choose one by data.path",
                                     folder, found[0].variant->name, found[0].folder, found[1].variant->name,
                                     found[1].folder));
    return found.front();
}

/// Which of a record's labels the job asks for.
std::size_t label_index(const Variant& variant, const std::string& label) {
    if (label == "first")
        return 0;
    if (label == "last")
        return variant.labels.size() - 1;
    const auto found = std::find_if(variant.labels.begin(), variant.labels.end(),
                                    [&](const Label& candidate) { return candidate.name == label; });
    if (found != variant.labels.end())
        return static_cast<std::size_t>(found - variant.labels.begin());
    std::string names;
    for (const Label& candidate : variant.labels)
        names += fmt::format(", \"{}\"", candidate.name);
    throw InputError(
        fmt::format("data.label: {} has the labels \"first\", \"last\"{}, found \"{}\"", variant.name, names, label));
}

/// Three planes to NHWC, at the end of `pixels`.
void append_image(const std::uint8_t* planes, std::vector<std::uint8_t>& pixels) {
    const std::size_t start = pixels.size();
    pixels.resize(start + kImage);
    std::uint8_t* const image = pixels.data() + start;
    for (std::size_t i = 0; i < kPlane; ++i)
        for (std::size_t c = 0; c < kChannels; ++c)
            image[i * kChannels + c] = planes[c * kPlane + i];
}

void append_file(BinaryFile file, const Variant& variant, std::size_t label, LabelledImages& images) {
    std::vector<std::uint8_t> record(variant.record_bytes());
    const int classes = variant.labels[label].classes;
    std::size_t count = 0;
    std::size_t got = 0;
    for (; (got = file.read(record)) == record.size(); ++count) {
        if (record[label] >= classes)
            throw InputError(fmt::format("{}: record {}: label {} is out of range: {}'s are 0 .. {}", file.path(),
                                         count, record[label], variant.name, classes - 1));
        images.labels.push_back(record[label]);
        append_image(record.data() + variant.labels.size(), images.pixels);
    }
    if (got != 0)
        throw InputError(
            fmt::format("{}: truncated: expected records of {} bytes, as {} has them, found {} and {} "
                        "bytes of another",
                        file.path(), record.size(), variant.name, count, got));
    if (count == 0)
        throw InputError(
            fmt::format("{}: expected records of {} bytes, found an empty file", file.path(), record.size()));
}

LabelledImages no_images() {
    return {.sample = {1, kSide, kSide, kChannels}, .pixels = {}, .labels = {}};
}

}  // namespace

DataSplits load_cifar(const DataOptions& options, std::uint32_t /*seed*/) {
    const Source source = find_source(options.path);
    const Variant& variant = *source.variant;
    const std::size_t label = label_index(variant, options.label);
    LabelledImages train = no_images();
    for (const std::string& path : source.train)
        append_file(BinaryFile(path), variant, label, train);
    LabelledImages test = no_images();
    append_file(open_plain_or_gz(source.folder, std::string(variant.test)), variant, label, test);
    const int classes = variant.labels[label].classes;
    if (options.classes > 0 && options.classes != classes)
        throw InputError(fmt::format("data.classes: {} has {}, found {}", variant.name, classes, options.classes));
    return normalize_splits(std::move(train), std::move(test), classes, options);
}

}  // namespace dither::detail
