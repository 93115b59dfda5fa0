// Data of one format, DITHER_FUZZ_FORMAT: the first byte chooses the file that the others are, beside a valid rest.
// What is read, plain or compressed, is finite and has the labels that it promises.
#include "core/config.hpp"
#include "core/data/dataset.hpp"
#include "core/error.hpp"
#include "core/vector_math.hpp"
#include "tests/fuzz/target.hpp"
#include "tests/unit/temporary_folder.hpp"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <numeric>
#include <string>
#include <string_view>

namespace dither::fuzz {
namespace {

constexpr std::string_view kFormat = DITHER_FUZZ_FORMAT;

struct File {
    std::string name;
    Bytes bytes;
};

Bytes bytes_of(std::initializer_list<int> values) {
    Bytes bytes;
    for (const int value : values)
        bytes.push_back(static_cast<std::byte>(value));
    return bytes;
}

Bytes idx_images() {
    Bytes images = bytes_of({0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 2});
    append(images, bytes_of({1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 255}));
    return images;
}

Bytes idx_labels() {
    return bytes_of({0, 0, 8, 1, 0, 0, 0, 3, 0, 1, 1});
}

/// One image, behind its labels.
Bytes cifar_record(std::initializer_list<int> labels) {
    Bytes record = bytes_of(labels);
    for (int i = 0; i < 3 * 32 * 32; ++i)
        record.push_back(static_cast<std::byte>(i % 251));
    return record;
}

/// NumPy's file of bytes.
Bytes npy(const std::string& shape, std::initializer_list<int> values) {
    std::string header = "{'descr': '|u1', 'fortran_order': False, 'shape': " + shape + ", }";
    header.resize(117, ' ');  // with what is around it two times 64 bytes
    header += '\n';
    Bytes file = to_bytes("\x93NUMPY");
    append(file, bytes_of({1, 0, static_cast<int>(header.size()), 0}));
    append(file, to_bytes(header));
    append(file, bytes_of(values));
    return file;
}

Bytes pgm(int pixel) {
    Bytes file = to_bytes("P5\n2 2\n255\n");
    append(file, bytes_of({pixel, 2, 3, 255}));
    return file;
}

/// A set that is valid, file by file.
std::vector<File> valid_files() {
    if (kFormat == "idx")
        return {{"train-images-idx3-ubyte", idx_images()},
                {"train-labels-idx1-ubyte", idx_labels()},
                {"t10k-images-idx3-ubyte", idx_images()},
                {"t10k-labels-idx1-ubyte", idx_labels()}};
    if (kFormat == "cifar")
        return {{"data_batch_1.bin", cifar_record({3})}, {"test_batch.bin", cifar_record({9})}};
    if (kFormat == "npy")
        return {{"train_x.npy", npy("(2, 3)", {1, 2, 3, 4, 5, 6})},
                {"train_y.npy", npy("(2,)", {0, 1})},
                {"test_x.npy", npy("(1, 3)", {1, 2, 3})},
                {"test_y.npy", npy("(1,)", {1})}};
    if (kFormat == "libsvm")
        return {{"train", to_bytes("+1 1:0.5 3:2\n-1 2:1e-3\n")}, {"test", to_bytes("1 1:2\n")}};
    if (kFormat == "images")
        return {{"train/a/0.pgm", pgm(1)}, {"train/b/0.pgm", pgm(9)}, {"test/a/0.pgm", pgm(3)}};
    return {{"table.csv", to_bytes("x,\"the y\",label\n1,2e-3,0\n-4.5, 5 ,1\n\n7,8,1\r\n10,11,0\n")}};
}

/// A folder with them; the file that changes is written by each run.
struct Set {
    Set() {
        for (const File& file : files) {
            std::filesystem::create_directories((folder.path() / file.name).parent_path());
            write_bytes(folder.path() / file.name, file.bytes);
        }
        options.format = kFormat;
        options.path = kFormat == "csv" ? (folder.path() / files.front().name).string() : folder.path().string();
    }

    std::vector<File> files = valid_files();
    test::TemporaryFolder folder;
    DataOptions options;
};

void check(const Dataset& data) {
    require(std::ranges::all_of(data.labels(), [&](int label) { return label >= 0 && label < data.classes(); }),
            "a label is none of the {} classes", data.classes());
    std::vector<std::uint32_t> indices(std::min<std::size_t>(data.size(), 8));
    std::iota(indices.begin(), indices.end(), 0U);
    Batch batch;
    data.gather(indices, batch);
    require(all_finite(batch.inputs.values()), "an input is not finite");
    require(all_finite(batch.targets.values.values()), "a target is not finite");
}

void load(const DataOptions& options) {
    try {
        const DataSplits data = load_data(options, 1);
        check(data.train);
        check(data.test);
    } catch (const InputError&) {
    }
}

}  // namespace

std::vector<Bytes> seeds() {
    std::vector<Bytes> seeds;
    const std::vector<File> files = valid_files();
    for (std::size_t i = 0; i < files.size(); ++i)
        seeds.push_back(with_choice(i, files[i].bytes));
    if (kFormat == "cifar")
        seeds.push_back(with_choice(0, cifar_record({3, 4})));
    if (kFormat == "csv")
        for (const char* text : {"1,2\n3,4\n", "a,b\n1e308,1\n-1e308,0\n1e308,1\n", "1;2\n", "nan,1\n2,inf\n"})
            seeds.push_back(with_choice(0, to_bytes(text)));
    return seeds;
}

void run(std::span<const std::byte> bytes) {
    static const Set set;
    const auto [which, content] = split_choice(bytes, set.files.size());
    const auto path = set.folder.path() / set.files[which].name;
    write_bytes(path, content);
    load(set.options);
    if (kFormat == "csv" || kFormat == "npy" || kFormat == "libsvm") {
        DataOptions regression = set.options;
        regression.task = "regression";
        load(regression);
    }
    write_bytes(path, set.files[which].bytes);
}

}  // namespace dither::fuzz
