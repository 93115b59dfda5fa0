#include "core/data/detail/class_names.hpp"
#include "core/data/detail/image_file.hpp"
#include "core/data/detail/images.hpp"
#include "core/data/detail/readers.hpp"
#include "core/error.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string_view>
#include <system_error>
#include <utility>

namespace dither::detail {
namespace {

namespace fs = std::filesystem;

struct ImagePath {
    fs::path path;
    std::int32_t label = 0;
    std::uint32_t place = 0;  ///< in the order of the paths
    std::uint32_t turn = 0;   ///< among those of its class
};

std::vector<fs::path> sorted_entries(const fs::path& folder) {
    std::error_code failure;
    std::vector<fs::path> entries;
    for (fs::directory_iterator entry(folder, failure); !failure && entry != fs::directory_iterator();
         entry.increment(failure))
        entries.push_back(entry->path());
    if (failure)
        throw InputError(fmt::format("{}: expected a folder that can be read: {}", folder.string(), failure.message()));
    std::ranges::sort(entries);
    return entries;
}

std::vector<std::string> folders_in(const fs::path& folder) {
    std::vector<std::string> names;
    std::error_code ignored;
    for (const fs::path& entry : sorted_entries(folder))
        if (fs::is_directory(entry, ignored))
            names.push_back(entry.filename().string());
    return names;
}

bool is_image(const fs::path& path) {
    constexpr std::array<std::string_view, 6> kEndings{".png", ".jpg", ".jpeg", ".bmp", ".pgm", ".ppm"};
    std::string ending = path.extension().string();
    std::ranges::transform(ending, ending.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return std::ranges::find(kEndings, ending) != kEndings.end();
}

/// The first image of each class, then the second of each, so that the first ones of a set are of all classes.
std::vector<ImagePath> list_images(const fs::path& folder, const std::vector<std::string>& names) {
    std::vector<ImagePath> images;
    for (const std::string& name : folders_in(folder)) {
        const auto found = std::ranges::find(names, name);
        if (found == names.end())
            throw InputError(fmt::format("{}: expected folders of the classes {}, found \"{}\"", folder.string(),
                                         fmt::join(names, ", "), name));
        std::uint32_t turn = 0;
        for (const fs::path& path : sorted_entries(folder / name))
            if (std::error_code ignored; is_image(path) && !fs::is_directory(path, ignored))
                images.push_back({path, static_cast<std::int32_t>(found - names.begin()),
                                  static_cast<std::uint32_t>(images.size()), turn++});
    }
    if (images.empty())
        throw InputError(
            fmt::format("{}: expected .png, .jpg, .bmp, .pgm or .ppm files in a folder for each class, "
                        "found none",
                        folder.string()));
    std::ranges::stable_sort(images, {}, &ImagePath::turn);
    return images;
}

std::vector<std::uint8_t> read_bytes(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file)
        throw InputError(fmt::format("{}: cannot be opened", path.string()));
    return {std::istreambuf_iterator<char>(file), {}};
}

/// `sample`: the shape of each image, or of rank 0, when the first one decides.
LabelledImages read_images(std::span<const ImagePath> paths, const Shape& sample) {
    LabelledImages images{sample, {}, {}};
    for (const ImagePath& each : paths) {
        const Image image = decode_image(read_bytes(each.path), each.path.string(), images.sample);
        images.sample = image.shape;
        images.pixels.insert(images.pixels.end(), image.pixels.begin(), image.pixels.end());
        images.labels.push_back(each.label);
    }
    return images;
}

}  // namespace

DataSplits load_images(const DataOptions& options, std::uint32_t /*seed*/) {
    const fs::path folder = options.path;
    const std::vector<std::string> names = class_names(options, folders_in(folder / "train"));
    const std::vector<ImagePath> train_paths = list_images(folder / "train", names);
    const std::vector<ImagePath> test_paths = list_images(folder / "test", names);
    const std::size_t used =
        options.limit > 0 ? std::min<std::size_t>(options.limit, train_paths.size()) : train_paths.size();
    LabelledImages train = read_images(std::span(train_paths).first(used), {});
    LabelledImages test = read_images(test_paths, train.sample);
    const int classes = std::max(options.classes, static_cast<int>(names.size()));
    DataSplits splits = normalize_splits(std::move(train), std::move(test), classes, options);
    splits.preparation.labels = names;
    splits.origin = {.count = train_paths.size(), .rows = {}};
    for (const ImagePath& path : std::span(train_paths).first(used))
        splits.origin.rows.push_back(path.place);
    return splits;
}

}  // namespace dither::detail
