// Memory of a training step: what the layers keep for the backward pass and what passes between them.
//
// Every step asks for the same sizes in the same order, so after the first step the arena has all that it will need and
// a step never reaches the system's allocator. Blocks may be given back in any order. Nothing is planned ahead: a plan
// of precision may change between two steps, and the next step simply takes other sizes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace dither {

/// Takes the lowest free place that is large enough (first fit), so that the memory that a step touches stays compact.
/// Must outlive its blocks. Not thread-safe: one for each worker.
class Arena {
public:
    Arena();
    Arena(const Arena&) = delete;
    Arena& operator=(const Arena&) = delete;
    ~Arena();

    /// Aligned to 64 bytes; contents are unspecified.
    void* take(std::size_t bytes);
    /// `block` and `bytes` as taken.
    void give(void* block, std::size_t bytes);

    std::size_t in_use() const { return in_use_; }      ///< bytes
    std::size_t peak() const { return peak_; }          ///< largest in_use() since reset_peak()
    std::size_t capacity() const { return capacity_; }  ///< bytes held from the system
    void reset_peak() { peak_ = in_use_; }

private:
    struct Free {
        std::byte* begin;
        std::size_t size;
    };

    void grow(std::size_t bytes);
    void merge_chunks();

    std::vector<std::pair<std::byte*, std::size_t>> chunks_;  ///< one, once a step is over
    std::vector<Free> free_;                                  ///< by address
    std::size_t in_use_ = 0;
    std::size_t peak_ = 0;
    std::size_t capacity_ = 0;
};

namespace detail {

/// What precedes the values of a buffer.
struct alignas(64) BufferHeader {
    Arena* arena;       ///< null: the system's memory
    std::size_t bytes;  ///< with this header
    std::uint32_t handles;
};

BufferHeader* take_buffer(std::size_t bytes, Arena* arena);
void give_buffer(BufferHeader* header);

}  // namespace detail

/// A handle to `size` values in an arena, or in the system's memory. Moving hands it over; share() makes a second
/// handle to the same values, and the last one gives them back. Not thread-safe.
template <typename T>
class Buffer {
public:
    Buffer() = default;
    /// Values are unspecified.
    explicit Buffer(std::size_t size, Arena* arena = nullptr)
        : header_(detail::take_buffer(size * sizeof(T), arena)), size_(size) {}
    Buffer(Buffer&& other) noexcept
        : header_(std::exchange(other.header_, nullptr)), size_(std::exchange(other.size_, 0)) {}
    Buffer& operator=(Buffer&& other) noexcept {
        std::swap(header_, other.header_);
        std::swap(size_, other.size_);
        other.release();
        return *this;
    }
    ~Buffer() { release(); }

    Buffer share() const {
        Buffer second;
        second.header_ = header_;
        second.size_ = size_;
        if (header_ != nullptr)
            ++header_->handles;
        return second;
    }
    /// No other handle sees these values, so they may be changed in place.
    bool unique() const { return header_ != nullptr && header_->handles == 1; }
    void release() {
        if (header_ != nullptr && --header_->handles == 0)
            detail::give_buffer(header_);
        header_ = nullptr;
        size_ = 0;
    }

    std::size_t size() const { return size_; }
    bool empty() const { return size_ == 0; }
    T* data() { return header_ == nullptr ? nullptr : reinterpret_cast<T*>(header_ + 1); }
    const T* data() const { return header_ == nullptr ? nullptr : reinterpret_cast<const T*>(header_ + 1); }
    std::span<T> values() { return {data(), size_}; }
    std::span<const T> values() const { return {data(), size_}; }

private:
    detail::BufferHeader* header_ = nullptr;
    std::size_t size_ = 0;
};

}  // namespace dither
