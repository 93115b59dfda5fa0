#include "core/data/detail/image_file.hpp"

#include "core/error.hpp"
#include "core/little_endian.hpp"

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdlib>
#include <limits>
#include <memory>
#include <string_view>
#include <utility>

#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_MAX_DIMENSIONS (1 << 14)
#define STBI_NO_STDIO
#define STBI_ONLY_BMP
#define STBI_ONLY_JPEG
#define STBI_ONLY_PNG
#include <stb/stb_image.h>

namespace dither::detail {
namespace {

constexpr std::string_view kBlanks = " \t\n\r";

struct Free {
    void operator()(stbi_uc* pixels) const { stbi_image_free(pixels); }
};

[[noreturn]] void fail(const std::string& path, const char* reason) {
    throw InputError(fmt::format("{}: expected a PNG, JPEG, BMP, PGM or PPM image, found none: {}", path,
                                 reason != nullptr ? reason : "it cannot be decoded"));
}

Shape shape_of(std::int64_t height, std::int64_t width, int channels, const std::string& path, const Shape& expected) {
    if (height < 1 || height > STBI_MAX_DIMENSIONS || width < 1 || width > STBI_MAX_DIMENSIONS)
        fail(path, "its sides are not of 1 to 16384 pixels");
    const Shape shape{1, height, width, channels};
    if (expected.rank() > 0 && shape != expected)
        throw InputError(
            fmt::format("{}: expected an image of {} rows, {} columns and {} channels, as the first one is, "
                        "found {}, {} and {}",
                        path, expected[1], expected[2], expected[3], height, width, channels));
    return shape;
}

/// A PGM (P5) or PPM (P6) file: the two letters, width, height and the largest value, decimal, with blanks and comments
/// between them, one blank, and the bytes. stb would take a truncated one for whole.
class Pnm {
public:
    Pnm(std::string_view text, const std::string& path) : path_(path), rest_(text.substr(2)) {}

    Image decode(int channels, const Shape& expected) {
        const std::int64_t width = read_number();
        const std::int64_t height = read_number();
        if (read_number() != 255)
            fail(path_, "a PGM or PPM file has values of up to 255 here");
        const Shape shape = shape_of(height, width, channels, path_, expected);
        const auto count = static_cast<std::size_t>(shape.count());
        if (rest_.size() != count + 1 || kBlanks.find(rest_.front()) == std::string_view::npos)
            fail(path_, "as many bytes follow the header of a PGM or PPM file as there are values");
        rest_.remove_prefix(1);
        return {shape, {rest_.begin(), rest_.end()}};
    }

private:
    std::int64_t read_number() {
        const auto skip_to = [&](std::size_t place) { rest_.remove_prefix(std::min(place, rest_.size())); };
        skip_to(rest_.find_first_not_of(kBlanks));
        while (rest_.starts_with('#')) {
            skip_to(rest_.find('\n'));
            skip_to(rest_.find_first_not_of(kBlanks));
        }
        std::int64_t number = 0;
        const auto [end, error] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), number);
        if (error != std::errc{})
            fail(path_, "the header of a PGM or PPM file has three numbers");
        rest_.remove_prefix(static_cast<std::size_t>(end - rest_.data()));
        return number;
    }

    const std::string& path_;
    std::string_view rest_;
};

/// A BMP file says its size; stb would take what is missing for zeros.
bool is_truncated_bmp(std::string_view text) {
    constexpr std::size_t kHeader = 6;
    return text.starts_with("BM") &&
           (text.size() < kHeader ||
            load_little<std::uint32_t>(std::as_bytes(std::span(text)).data() + 2) > text.size());
}

constexpr std::uint8_t kMarker = 0xFF;

/// Whether the tables of a DHT segment (ITU-T T.81, B.2.4.2) of `length` bytes say 256 codes at most, each in 16 counts
/// by length. Like stb, it reads a last table to its end, wherever the segment ends, and zeros beyond the file's.
bool huffman_tables_fit(std::span<const std::uint8_t> bytes, std::size_t length) {
    constexpr std::size_t kCounts = 17;  // with the table's number before them
    for (std::size_t done = 0; done < length;) {
        const std::span<const std::uint8_t> rest = bytes.subspan(std::min(done + 1, bytes.size()));
        std::size_t codes = 0;
        for (const std::uint8_t count : rest.first(std::min(kCounts - 1, rest.size())))
            codes += count;
        if (codes > 256)
            return false;
        done += kCounts + codes;
    }
    return true;
}

/// Whether stb may see this JPEG file: it writes past its table of codes where a segment says more than there can be.
/// Walks the segments by their lengths, and what is coded between them byte by byte, as stb does.
bool is_safe_jpeg(std::span<const std::uint8_t> file) {
    constexpr std::uint8_t kTables = 0xC4, kFirstRestart = 0xD0, kStart = 0xD8;
    while (true) {
        const auto marker = std::ranges::find(file, kMarker);
        const auto kind = std::find_if(marker, file.end(), [](std::uint8_t byte) { return byte != kMarker; });
        if (kind == file.end())
            return true;
        file = {kind + 1, file.end()};
        if (*kind == 0 || (*kind >= kFirstRestart && *kind <= kStart))
            continue;  // what has no length
        const std::size_t length = file.size() < 2 ? 0 : std::size_t{file[0]} << 8 | file[1];
        if (*kind == kTables && length > 2 && !huffman_tables_fit(file.subspan(2), length - 2))
            return false;
        file = file.subspan(std::min(length, file.size()));
    }
}

Image decode_by_stb(std::span<const std::uint8_t> file, const std::string& path, const Shape& expected) {
    const int size = static_cast<int>(file.size());
    int width = 0, height = 0, channels = 0;
    if (stbi_info_from_memory(file.data(), size, &width, &height, &channels) == 0)
        fail(path, stbi_failure_reason());
    channels = channels < 3 ? 1 : 3;  // without the alpha channel
    // Of a BMP file that begins with its uppermost row the height is negative here.
    const Shape shape = shape_of(std::abs(std::int64_t{height}), width, channels, path, expected);
    const std::unique_ptr<stbi_uc, Free> pixels(
        stbi_load_from_memory(file.data(), size, &width, &height, nullptr, channels));
    if (pixels == nullptr || height != shape[1] || width != shape[2])
        fail(path, stbi_failure_reason());
    return {shape, {pixels.get(), pixels.get() + shape.count()}};
}

}  // namespace

Image decode_image(std::span<const std::uint8_t> file, const std::string& path, const Shape& expected) {
    if (file.size() > std::size_t{std::numeric_limits<int>::max()})
        fail(path, "it has 2^31 bytes or more");
    const std::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
    for (const auto& [letters, channels] : {std::pair("P5", 1), {"P6", 3}})
        if (text.starts_with(letters))
            return Pnm(text, path).decode(channels, expected);
    if (is_truncated_bmp(text))
        fail(path, "it is shorter than a BMP file says");
    if (!file.empty() && file[0] == kMarker && !is_safe_jpeg(file))
        fail(path, "a Huffman table of more than 256 codes");
    return decode_by_stb(file, path, expected);
}

}  // namespace dither::detail
