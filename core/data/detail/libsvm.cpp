#include "core/data/detail/libsvm.hpp"

#include "core/data/detail/tables.hpp"
#include "core/error.hpp"

#include <charconv>
#include <optional>
#include <string_view>

namespace dither::detail {
namespace {

constexpr std::uint32_t kMostFeatures = std::uint32_t{1} << 24;

/// The next word of `rest`, which begins behind it afterwards; empty at the end.
std::string_view next_word(std::string_view& rest) {
    constexpr std::string_view kBlanks = " \t\r";
    rest.remove_prefix(std::min(rest.find_first_not_of(kBlanks), rest.size()));
    const std::string_view word = rest.substr(0, rest.find_first_of(kBlanks));
    rest.remove_prefix(word.size());
    return word;
}

/// "+1" is a number, too.
std::optional<double> parse_answer(std::string_view word) {
    const bool plus = word.starts_with('+') && !word.starts_with("+-");
    return parse_number(word.substr(plus ? 1 : 0));
}

class LineReader {
public:
    LineReader(SparseRows& rows, std::size_t number) : rows_(rows), number_(number) {}

    void read(std::string_view answer, std::string_view rest) {
        const std::optional<double> value = parse_answer(answer);
        if (!value)
            fail("a label, a finite number", answer);
        rows_.answers.push_back(*value);
        rows_.lines.push_back(number_);
        std::uint32_t least = 1;
        for (std::string_view word = next_word(rest); !word.empty(); word = next_word(rest))
            least = read_entry(word, least) + 1;
        rows_.width = std::max(rows_.width, least - 1);
        rows_.ends.push_back(rows_.values.size());
    }

private:
    [[noreturn]] void fail(const std::string& expected, std::string_view found) const {
        throw InputError(
            fmt::format("{}:{}: expected {}, found {:?}", rows_.path, number_, expected, found.substr(0, 80)));
    }

    /// Returns the index.
    std::uint32_t read_entry(std::string_view word, std::uint32_t least) {
        std::uint32_t index = 0;
        const char* const end = word.data() + word.size();
        const auto [colon, error] = std::from_chars(word.data(), end, index);
        if (error != std::errc{} || colon == end || *colon != ':')
            fail("index:value", word);
        if (index < least || index > kMostFeatures)
            fail(fmt::format("an index from {} to {}: indices count from 1 and ascend", least, kMostFeatures), word);
        const std::optional<double> value = parse_number({colon + 1, end});
        if (!value)
            fail("index:value with a finite number", word);
        rows_.features.push_back(index - 1);
        rows_.values.push_back(*value);
        return index;
    }

    SparseRows& rows_;
    std::size_t number_;
};

}  // namespace

SparseRows parse_libsvm(std::istream& text, const std::string& path) {
    SparseRows rows{.path = path};
    std::string line;
    for (std::size_t number = 1; std::getline(text, line); ++number) {
        std::string_view rest = line;
        if (const std::string_view answer = next_word(rest); !answer.empty())
            LineReader(rows, number).read(answer, rest);
    }
    if (text.bad())
        throw InputError(fmt::format("{}: cannot be read to its end", path));
    return rows;
}

}  // namespace dither::detail
