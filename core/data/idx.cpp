#include "core/data/detail/binary_file.hpp"
#include "core/data/detail/images.hpp"
#include "core/data/detail/readers.hpp"
#include "core/error.hpp"

#include <array>
#include <utility>

namespace dither::detail {
namespace {

// An IDX file: a big-endian magic number (two zero bytes, the type 0x08 of bytes, the number of dimensions), one
// big-endian 32-bit extent a dimension, then the bytes, the last dimension contiguous.
constexpr std::uint32_t kLabelsMagic = 0x00000801;
constexpr std::uint32_t kImagesMagic = 0x00000803;

std::uint32_t read_number(BinaryFile& file, const char* what) {
    std::array<std::uint8_t, 4> bytes{};
    if (file.read(bytes) != bytes.size())
        throw InputError(fmt::format("{}: truncated: expected {} in the header", file.path(), what));
    return std::uint32_t{bytes[0]} << 24 | std::uint32_t{bytes[1]} << 16 | std::uint32_t{bytes[2]} << 8 | bytes[3];
}

void expect_magic(BinaryFile& file, std::uint32_t magic) {
    const std::uint32_t found = read_number(file, "the magic number");
    if (found != magic)
        throw InputError(
            fmt::format("{}: wrong magic number: expected {:#010x}, found {:#010x}", file.path(), magic, found));
}

void read_images(BinaryFile file, LabelledImages& images) {
    expect_magic(file, kImagesMagic);
    const std::uint32_t count = read_number(file, "the number of images");
    const std::uint32_t height = read_number(file, "the height");
    const std::uint32_t width = read_number(file, "the width");
    constexpr std::uint32_t kMostPixels = 1 << 14;  // a side
    if (count == 0 || height == 0 || height > kMostPixels || width == 0 || width > kMostPixels)
        throw InputError(fmt::format("{}: expected at least one image of 1 .. {} pixels a side, found {} of {} x {}",
                                     file.path(), kMostPixels, count, height, width));
    images.sample = {1, height, width, 1};
    images.pixels = read_rest(file, std::size_t{count} * height * width);
}

void read_labels(BinaryFile& file, LabelledImages& images) {
    expect_magic(file, kLabelsMagic);
    const std::uint32_t count = read_number(file, "the number of labels");
    const std::size_t expected = images.pixels.size() / static_cast<std::size_t>(images.sample.count());
    if (count != expected)
        throw InputError(
            fmt::format("{}: expected {} labels, one for each image, found {}", file.path(), expected, count));
    const std::vector<std::uint8_t> bytes = read_rest(file, count);
    images.labels.assign(bytes.begin(), bytes.end());
}

struct Split {
    LabelledImages images;
    std::string labels_path;
};

Split read_split(const std::string& folder, const std::string& prefix) {
    Split split;
    read_images(open_plain_or_gz(folder, prefix + "-images-idx3-ubyte"), split.images);
    BinaryFile labels = open_plain_or_gz(folder, prefix + "-labels-idx1-ubyte");
    read_labels(labels, split.images);
    split.labels_path = labels.path();
    return split;
}

void check_labels(const Split& split, int classes) {
    require_labels_below(split.images.labels, classes,
                         [&](std::size_t i) { return fmt::format("{}: sample {}", split.labels_path, i); });
}

}  // namespace

DataSplits load_idx(const DataOptions& options, std::uint32_t /*seed*/) {
    Split train = read_split(options.path, "train");
    Split test = read_split(options.path, "t10k");
    if (test.images.sample != train.images.sample)
        throw InputError(fmt::format("{}: training images have shape {}, test images {}", options.path,
                                     train.images.sample.str(), test.images.sample.str()));
    const int classes = options.classes > 0 ? options.classes : count_classes(train.images.labels);
    check_labels(train, classes);
    check_labels(test, classes);
    return normalize_splits(std::move(train.images), std::move(test.images), classes, options);
}

}  // namespace dither::detail
