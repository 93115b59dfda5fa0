#include "core/data/detail/readers.hpp"
#include "core/error.hpp"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <memory>
#include <type_traits>
#include <utility>

namespace dither::detail {
namespace {

// An IDX file: a big-endian magic number (two zero bytes, the type 0x08 of bytes, the number of dimensions), one
// big-endian 32-bit extent a dimension, then the bytes, the last dimension contiguous.
constexpr std::uint32_t kLabelsMagic = 0x00000801;
constexpr std::uint32_t kImagesMagic = 0x00000803;

/// An IDX file, plain or compressed, read from its beginning to its end.
class IdxFile {
public:
    explicit IdxFile(std::string path) : path_(std::move(path)), file_(gzopen(path_.c_str(), "rb")) {
        if (file_ == nullptr)
            throw InputError(fmt::format("{}: cannot be opened", path_));
    }

    std::uint32_t read_number(const char* what) {
        std::array<unsigned char, 4> bytes{};
        if (read(bytes.data(), bytes.size()) != bytes.size())
            throw InputError(fmt::format("{}: truncated: expected {} in the header", path_, what));
        return std::uint32_t{bytes[0]} << 24 | std::uint32_t{bytes[1]} << 16 | std::uint32_t{bytes[2]} << 8 | bytes[3];
    }

    void expect_magic(std::uint32_t magic) {
        const std::uint32_t found = read_number("the magic number");
        if (found != magic)
            throw InputError(
                fmt::format("{}: wrong magic number: expected {:#010x}, found {:#010x}", path_, magic, found));
    }

    /// The rest of the file, which must be `count` bytes. Memory grows with what is there, not with what a header says.
    std::vector<std::uint8_t> read_rest(std::size_t count) {
        constexpr std::size_t kStep = std::size_t{16} << 20;
        std::vector<std::uint8_t> bytes;
        while (bytes.size() < count) {
            const std::size_t start = bytes.size();
            const std::size_t step = std::min(kStep, count - start);
            bytes.resize(start + step);
            if (const std::size_t got = read(bytes.data() + start, step); got < step)
                throw InputError(fmt::format("{}: truncated: expected {} bytes after the header, found {}", path_,
                                             count, start + got));
        }
        std::uint8_t extra = 0;
        if (read(&extra, 1) != 0)
            throw InputError(fmt::format("{}: expected {} bytes after the header, found more", path_, count));
        return bytes;
    }

    const std::string& path() const { return path_; }

private:
    std::size_t read(void* to, std::size_t count) {
        const int got = gzread(file_.get(), to, static_cast<unsigned>(count));
        int code = Z_OK;
        const char* const message = gzerror(file_.get(), &code);  // begins with the path
        if (code == Z_BUF_ERROR)
            throw InputError(fmt::format("{}: truncated: the compressed data end early", path_));
        if (got < 0)
            throw InputError(message);
        return static_cast<std::size_t>(got);
    }

    struct Close {
        void operator()(gzFile file) const { gzclose(file); }
    };

    std::string path_;
    std::unique_ptr<std::remove_pointer_t<gzFile>, Close> file_;
};

IdxFile open_idx(const std::string& folder, const std::string& name) {
    const std::string plain = (std::filesystem::path(folder) / name).string();
    for (const std::string& path : {plain, plain + ".gz"})
        if (std::filesystem::is_regular_file(path))
            return IdxFile(path);
    throw InputError(fmt::format("{}: not found, neither plain nor with .gz", plain));
}

struct Images {
    Shape sample;
    std::size_t count = 0;
    std::vector<std::uint8_t> pixels;
};

Images read_images(IdxFile file) {
    file.expect_magic(kImagesMagic);
    const std::uint32_t count = file.read_number("the number of images");
    const std::uint32_t height = file.read_number("the height");
    const std::uint32_t width = file.read_number("the width");
    constexpr std::uint32_t kMostPixels = 1 << 14;  // a side
    if (count == 0 || height == 0 || height > kMostPixels || width == 0 || width > kMostPixels)
        throw InputError(fmt::format("{}: expected at least one image of 1 .. {} pixels a side, found {} of {} x {}",
                                     file.path(), kMostPixels, count, height, width));
    return {Shape{1, height, width, 1}, count, file.read_rest(std::size_t{count} * height * width)};
}

std::vector<std::int32_t> read_labels(IdxFile& file, std::size_t images) {
    file.expect_magic(kLabelsMagic);
    const std::uint32_t count = file.read_number("the number of labels");
    if (count != images)
        throw InputError(
            fmt::format("{}: expected {} labels, one for each image, found {}", file.path(), images, count));
    const std::vector<std::uint8_t> bytes = file.read_rest(count);
    return {bytes.begin(), bytes.end()};
}

struct Normalization {
    double mean = 0;
    double deviation = 1;
};

/// Of pixel / 255, from sums of integers, which are exact.
Normalization measure(std::span<const std::uint8_t> pixels) {
    std::uint64_t sum = 0;
    std::uint64_t squares = 0;
    for (const std::uint8_t pixel : pixels) {
        sum += pixel;
        squares += std::uint64_t{pixel} * pixel;
    }
    const auto count = static_cast<double>(pixels.size());
    const double mean = static_cast<double>(sum) / count;
    const double variance = static_cast<double>(squares) / count - mean * mean;
    return {mean / 255, variance > 0 ? std::sqrt(variance) / 255 : 1};
}

struct Split {
    Images images;
    std::vector<std::int32_t> labels;
    std::string labels_path;
};

Split read_split(const std::string& folder, const std::string& prefix) {
    Split split;
    split.images = read_images(open_idx(folder, prefix + "-images-idx3-ubyte"));
    IdxFile labels = open_idx(folder, prefix + "-labels-idx1-ubyte");
    split.labels = read_labels(labels, split.images.count);
    split.labels_path = labels.path();
    return split;
}

void check_labels(const Split& split, int classes) {
    require_labels_below(split.labels, classes,
                         [&](std::size_t i) { return fmt::format("{}: sample {}", split.labels_path, i); });
}

Dataset to_dataset(Split split, int classes, const Normalization& normalization) {
    return {split.images.sample,
            std::move(split.images.pixels),
            std::move(split.labels),
            classes,
            static_cast<float>(normalization.mean),
            static_cast<float>(normalization.deviation)};
}

}  // namespace

DataSplits load_idx(const DataOptions& options, std::uint32_t /*seed*/) {
    Split train = read_split(options.path, "train");
    Split test = read_split(options.path, "t10k");
    if (test.images.sample != train.images.sample)
        throw InputError(fmt::format("{}: training images have shape {}, test images {}", options.path,
                                     train.images.sample.str(), test.images.sample.str()));
    const int classes = count_classes(train.labels);
    check_labels(train, classes);
    check_labels(test, classes);
    if (options.limit > 0 && options.limit < train.labels.size()) {
        train.labels.resize(options.limit);
        train.images.pixels.resize(options.limit * static_cast<std::size_t>(train.images.sample.count()));
    }
    const Normalization normalization = measure(train.images.pixels);
    return {to_dataset(std::move(train), classes, normalization), to_dataset(std::move(test), classes, normalization)};
}

}  // namespace dither::detail
