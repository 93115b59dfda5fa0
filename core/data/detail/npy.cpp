#include "core/data/detail/npy.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <string_view>
#include <utility>

namespace dither::detail {
namespace {

// A .npy file: "\x93NUMPY", a major and a minor version, the length of the header (little-endian, 2 bytes in version 1,
// else 4), the header, and the values. The header is a literal of a Python dictionary, blanks and a line feed.
constexpr std::array<std::uint8_t, 6> kMagic{0x93, 'N', 'U', 'M', 'P', 'Y'};
constexpr std::size_t kMostHeader = std::size_t{1} << 16;
constexpr std::int64_t kMostBytes = std::int64_t{1} << 40;

struct TypeRow {
    std::string_view name;
    NpyType type;
    std::int64_t bytes;
};

constexpr std::array kTypes{TypeRow{"|u1", NpyType::u1, 1}, TypeRow{"<i4", NpyType::i4, 4},
                            TypeRow{"<i8", NpyType::i8, 8}, TypeRow{"<f4", NpyType::f4, 4},
                            TypeRow{"<f8", NpyType::f8, 8}};

struct Header {
    std::string_view type;
    bool fortran_order = false;
    std::vector<std::int64_t> extents;
};

/// Reads the dictionary, from left to right; each of its keys is there once, in any order.
class HeaderReader {
public:
    HeaderReader(const std::string& path, std::string_view text) : path_(path), text_(text), rest_(text) {}

    Header read() {
        Header header;
        bool type = false, order = false, shape = false;
        expect("{");
        while (!accept("}")) {
            if (is_key("'descr'", type))
                header.type = read_string();
            else if (is_key("'fortran_order'", order))
                header.fortran_order = read_flag();
            else if (is_key("'shape'", shape))
                header.extents = read_extents();
            else
                fail();
            if (!accept(",") && !rest_.starts_with('}'))
                fail();
        }
        if (!type || !order || !shape || !rest_.empty())
            fail();
        return header;
    }

private:
    [[noreturn]] void fail() const {
        throw InputError(fmt::format("{}: expected a header with 'descr', 'fortran_order' and 'shape', found {:?}",
                                     path_, text_.substr(0, 200)));
    }

    void skip_blanks() { rest_.remove_prefix(std::min(rest_.find_first_not_of(" \n"), rest_.size())); }

    bool accept(std::string_view token) {
        if (!rest_.starts_with(token))
            return false;
        rest_.remove_prefix(token.size());
        skip_blanks();
        return true;
    }

    void expect(std::string_view token) {
        if (!accept(token))
            fail();
    }

    bool is_key(std::string_view key, bool& seen) {
        if (!accept(key))
            return false;
        if (std::exchange(seen, true))
            fail();
        expect(":");
        return true;
    }

    std::string_view read_string() {
        expect("'");
        const std::size_t end = rest_.find('\'');
        if (end == std::string_view::npos)
            fail();
        const std::string_view text = rest_.substr(0, end);
        rest_.remove_prefix(end);
        expect("'");
        return text;
    }

    bool read_flag() {
        if (accept("True"))
            return true;
        expect("False");
        return false;
    }

    std::vector<std::int64_t> read_extents() {
        std::vector<std::int64_t> extents;
        expect("(");
        while (!accept(")")) {
            std::int64_t extent = 0;
            const auto [end, error] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), extent);
            if (error != std::errc{})
                fail();
            rest_.remove_prefix(static_cast<std::size_t>(end - rest_.data()));
            skip_blanks();
            extents.push_back(extent);
            if (!accept(",") && !rest_.starts_with(')'))
                fail();
        }
        return extents;
    }

    const std::string& path_;
    std::string_view text_;
    std::string_view rest_;
};

std::string read_header(ByteSource& source) {
    const auto read = [&](std::span<std::uint8_t> to) {
        if (source.read(to) != to.size())
            throw InputError(fmt::format("{}: truncated: it ends within the header", source.path()));
    };
    std::array<std::uint8_t, kMagic.size() + 2> start{};
    read(start);
    if (!std::equal(kMagic.begin(), kMagic.end(), start.begin()))
        throw InputError(fmt::format("{}: expected a .npy file, which begins with \"\\x93NUMPY\"", source.path()));
    const int version = start[kMagic.size()];
    if (version < 1 || version > 3)
        throw InputError(fmt::format("{}: expected version 1, 2 or 3 of .npy, found {}", source.path(), version));
    std::array<std::uint8_t, 4> length_bytes{};
    read(std::span(length_bytes).first(version == 1 ? 2 : 4));
    const std::size_t length = length_bytes[0] | std::size_t{length_bytes[1]} << 8 |
                               std::size_t{length_bytes[2]} << 16 | std::size_t{length_bytes[3]} << 24;
    if (length > kMostHeader)
        throw InputError(
            fmt::format("{}: expected a header of up to {} bytes, found {}", source.path(), kMostHeader, length));
    std::vector<std::uint8_t> header(length);
    read(header);
    return {header.begin(), header.end()};
}

const TypeRow& type_of(const Header& header, const std::string& path) {
    const auto found = std::ranges::find(kTypes, header.type, &TypeRow::name);
    if (found == kTypes.end())
        throw InputError(fmt::format("{}: expected the type |u1, <i4, <i8, <f4 or <f8, found {:?}", path, header.type));
    return *found;
}

std::int64_t count_bytes(const Header& header, std::int64_t each, const std::string& path) {
    std::int64_t bytes = each;
    const auto fits = [&](std::int64_t extent) {
        const bool possible = extent > 0 && extent <= kMostBytes / bytes;
        bytes *= possible ? extent : 1;
        return possible;
    };
    if (header.extents.empty() || header.extents.size() > 4 || !std::ranges::all_of(header.extents, fits))
        throw InputError(
            fmt::format("{}: expected 1 to 4 extents, none of them 0, of up to 2^40 bytes in all, found ({})", path,
                        fmt::join(header.extents, ", ")));
    return bytes;
}

}  // namespace

std::size_t NpyArray::item_count() const {
    return static_cast<std::size_t>(extents.front());
}

NpyArray read_npy(ByteSource& source) {
    const std::string text = read_header(source);
    Header header = HeaderReader(source.path(), text).read();
    const TypeRow& type = type_of(header, source.path());
    if (header.fortran_order)
        throw InputError(
            fmt::format("{}: expected C's order, found Fortran's: numpy.ascontiguousarray mends that", source.path()));
    const auto bytes = static_cast<std::size_t>(count_bytes(header, type.bytes, source.path()));
    return {source.path(), type.type, std::move(header.extents), read_rest(source, bytes)};
}

}  // namespace dither::detail
