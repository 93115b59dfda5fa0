// The archives behind the control messages, in cereal's style: one free serialize(archive, message) a type serves both
// directions. Unlike cereal's own archives the reader may be fed by an enemy: no count is believed before the bytes
// that it promises are there, nothing recurses, and there are no pointers and no types to choose.
//
//     archive(name, value)        a number, a flag (u8 0 or 1) or a digest
//     archive.as<Wire>(...)       an int or an enumeration in a narrower number
//     archive.text(...)           u32 length, bytes
//     archive.per_layer(...)      u32 count, elements
//     archive.list(...)           likewise, of other things than layers
//     archive.few(...)            u8 count, elements: at most so many
//     archive.payload(...)        u64 length, bytes
//     archive.expect(...)         a rule of the field before it: the reader throws FormatError, and the writer, whose
//                                 message would be refused by every reader, PreconditionError
#pragma once

#include "core/error.hpp"
#include "core/little_endian.hpp"
#include "core/sha256.hpp"
#include "transport/detail/outgoing_frame.hpp"

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace dither::detail {

/// T or const T: what a serialize function that reads and writes takes.
template <typename T, typename Value>
concept Either = std::same_as<std::remove_const_t<T>, Value>;

template <typename T>
concept WireNumber = std::unsigned_integral<T> || std::same_as<T, float>;

/// Appends to `out`, which is borrowed. `message` names it in errors.
class BoundedWriter {
public:
    static constexpr bool kReads = false;

    /// `shared`, if there is one, takes the shared payloads that are worth it instead of their bytes.
    BoundedWriter(std::string_view message, std::vector<std::byte>& out, std::vector<SharedPiece>* shared = nullptr)
        : message_(message), out_(out), shared_(shared) {}

    template <WireNumber T>
    void operator()(std::string_view /*name*/, T value) {
        out_.resize(out_.size() + sizeof(T));
        store_little(value, out_.data() + out_.size() - sizeof(T));
    }
    void operator()(std::string_view name, bool value) { (*this)(name, static_cast<std::uint8_t>(value)); }
    void operator()(std::string_view /*name*/, const Sha256& digest) { append(digest.data(), digest.size()); }

    template <std::unsigned_integral Wire, typename T>
    void as(std::string_view name, T value) {
        const auto number = static_cast<std::int64_t>(value);
        expect(std::in_range<Wire>(number), name, "is out of range");
        (*this)(name, static_cast<Wire>(number));
    }

    void text(std::string_view name, std::string_view text, std::size_t longest) {
        expect(text.size() <= longest, name, "is too long");
        (*this)(name, static_cast<std::uint32_t>(text.size()));
        append(text.data(), text.size());
    }

    template <typename Element, typename Visit>
    void per_layer(std::string_view name, const std::vector<Element>& elements, std::size_t element_bytes,
                   Visit&& visit) {
        list(name, elements, element_bytes, visit);
    }
    template <typename Element, typename Visit>
    void list(std::string_view name, const std::vector<Element>& elements, std::size_t /*element_bytes*/,
              Visit&& visit) {
        expect(std::in_range<std::uint32_t>(elements.size()), name, "has too many entries");
        (*this)(name, static_cast<std::uint32_t>(elements.size()));
        for (const Element& element : elements)
            visit(element);
    }

    template <typename Element, typename Visit>
    void few(std::string_view name, const std::vector<Element>& elements, std::uint8_t most, Visit&& visit) {
        expect(elements.size() <= most, name, "are too many");
        (*this)(name, static_cast<std::uint8_t>(elements.size()));
        for (const Element& element : elements)
            visit(element);
    }

    void payload(std::string_view name, const std::vector<std::byte>& bytes) {
        (*this)(name, std::uint64_t{bytes.size()});
        append(bytes.data(), bytes.size());
    }
    void payload(std::string_view name, const SharedBytes& bytes) {
        (*this)(name, std::uint64_t{bytes.size()});
        if (shared_ != nullptr && bytes.size() >= kWorthSharing)
            shared_->push_back({out_.size(), bytes});
        else
            append(bytes.data(), bytes.size());
    }

    void expect(bool holds, std::string_view name, std::string_view problem) const {
        require(holds, "{}: {} {}", message_, name, problem);
    }

private:
    void append(const void* data, std::size_t size) {
        const auto* bytes = static_cast<const std::byte*>(data);
        out_.insert(out_.end(), bytes, bytes + size);
    }

    /// Below, a piece of its own costs the network more than a copy costs memory.
    static constexpr std::size_t kWorthSharing = 4096;

    std::string_view message_;
    std::vector<std::byte>& out_;
    std::vector<SharedPiece>* shared_;
};

/// Reads from `body`, which is borrowed, and throws FormatError on the first thing that is not as it must be. A large
/// payload at its end takes over the body's memory: then `body` is gone, and nothing but finish() may follow.
class BoundedReader {
public:
    static constexpr bool kReads = true;

    BoundedReader(std::string_view message, std::vector<std::byte>& body, std::uint32_t max_layers)
        : message_(message), body_(body), in_(body), max_layers_(max_layers) {}

    template <WireNumber T>
    void operator()(std::string_view name, T& value) {
        value = load_little<T>(take(name, sizeof(T)).data());
    }
    void operator()(std::string_view name, bool& value) {
        const auto flag = number<std::uint8_t>(name);
        expect(flag <= 1, name, "is neither 0 nor 1");
        value = flag == 1;
    }
    void operator()(std::string_view name, Sha256& digest) {
        std::memcpy(digest.data(), take(name, digest.size()).data(), digest.size());
    }

    template <std::unsigned_integral Wire, typename T>
    void as(std::string_view name, T& value) {
        value = static_cast<T>(number<Wire>(name));
    }

    void text(std::string_view name, std::string& text, std::size_t longest) {
        const auto size = number<std::uint32_t>(name);
        expect(size <= longest, name, "is too long");
        const auto bytes = take(name, size);
        text.assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    }

    /// `element_bytes`: the least that one element takes; so many must be there before memory is.
    template <typename Element, typename Visit>
    void per_layer(std::string_view name, std::vector<Element>& elements, std::size_t element_bytes, Visit&& visit) {
        const auto count = number<std::uint32_t>(name);
        expect(count <= max_layers_, name, "has too many layers");
        read_list(name, count, elements, element_bytes, visit);
    }
    template <typename Element, typename Visit>
    void list(std::string_view name, std::vector<Element>& elements, std::size_t element_bytes, Visit&& visit) {
        read_list(name, number<std::uint32_t>(name), elements, element_bytes, visit);
    }

    template <typename Element, typename Visit>
    void few(std::string_view name, std::vector<Element>& elements, std::uint8_t most, Visit&& visit) {
        const auto count = number<std::uint8_t>(name);
        expect(count <= most, name, "are too many");
        elements.resize(count);
        for (Element& element : elements)
            visit(element);
    }

    void payload(std::string_view name, std::vector<std::byte>& bytes) {
        const auto size = number<std::uint64_t>(name);
        const auto taken = take(name, size);
        if (in_.empty() && taken.size() > body_.size() / 2) {
            body_.erase(body_.begin(), body_.end() - static_cast<std::ptrdiff_t>(taken.size()));
            bytes = std::move(body_);
            in_ = {};
        } else {
            bytes.assign(taken.begin(), taken.end());
        }
    }
    void payload(std::string_view name, SharedBytes& bytes) {
        std::vector<std::byte> own;
        payload(name, own);
        bytes = std::move(own);
    }

    void expect(bool holds, std::string_view name, std::string_view problem) const {
        if (!holds) [[unlikely]]
            throw FormatError(fmt::format("{}: {} {}", message_, name, problem));
    }

    /// Nothing may follow the last field.
    void finish() const { expect(in_.empty(), "body", "goes on after its last field"); }

private:
    template <typename Element, typename Visit>
    void read_list(std::string_view name, std::uint32_t count, std::vector<Element>& elements,
                   std::size_t element_bytes, Visit&& visit) {
        expect(count <= in_.size() / element_bytes, name, "has more entries than bytes");
        elements.resize(count);
        for (Element& element : elements)
            visit(element);
    }

    template <WireNumber T>
    T number(std::string_view name) {
        T value{};
        (*this)(name, value);
        return value;
    }

    std::span<const std::byte> take(std::string_view name, std::size_t size) {
        expect(size <= in_.size(), name, "is cut off");
        const auto taken = in_.first(size);
        in_ = in_.subspan(size);
        return taken;
    }

    std::string_view message_;
    std::vector<std::byte>& body_;
    std::span<const std::byte> in_;
    std::uint32_t max_layers_;
};

}  // namespace dither::detail
