#include "core/arena.hpp"

#include <algorithm>
#include <new>

namespace dither {
namespace {

constexpr std::size_t kAlignment = 64;
/// The least that is asked of the system at a time. Pages that nothing touches cost nothing, and blocks in one chunk
/// leave fewer holes than blocks in many.
constexpr std::size_t kChunk = std::size_t{32} << 20;

std::size_t aligned(std::size_t bytes) {
    return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

std::byte* from_system(std::size_t bytes) {
    return static_cast<std::byte*>(::operator new (bytes, std::align_val_t{kAlignment}));
}

void to_system(void* memory) {
    ::operator delete (memory, std::align_val_t{kAlignment});
}

}  // namespace

Arena::Arena() {
    free_.reserve(256);  // more holes than a step ever has
}

Arena::~Arena() {
    for (const auto& [chunk, size] : chunks_)
        to_system(chunk);
}

void* Arena::take(std::size_t bytes) {
    const std::size_t size = aligned(std::max<std::size_t>(bytes, 1));
    const auto fits = [&](const Free& hole) { return hole.size >= size; };
    auto hole = std::ranges::find_if(free_, fits);
    if (hole == free_.end()) {
        grow(size);
        hole = std::ranges::find_if(free_, fits);
    }
    std::byte* const block = hole->begin;
    hole->begin += size;
    hole->size -= size;
    if (hole->size == 0)
        free_.erase(hole);
    in_use_ += size;
    peak_ = std::max(peak_, in_use_);
    return block;
}

void Arena::give(void* block, std::size_t bytes) {
    const Free freed{static_cast<std::byte*>(block), aligned(std::max<std::size_t>(bytes, 1))};
    in_use_ -= freed.size;
    auto next = std::ranges::lower_bound(free_, freed.begin, {}, &Free::begin);
    next = free_.insert(next, freed);
    if (next + 1 != free_.end() && next->begin + next->size == (next + 1)->begin) {
        next->size += (next + 1)->size;
        free_.erase(next + 1);
    }
    if (next != free_.begin() && (next - 1)->begin + (next - 1)->size == next->begin) {
        (next - 1)->size += next->size;
        free_.erase(next);
    }
    if (in_use_ == 0 && chunks_.size() > 1)
        merge_chunks();
}

void Arena::grow(std::size_t bytes) {
    const std::size_t size = std::max(bytes, kChunk);
    chunks_.emplace_back(from_system(size), size);
    capacity_ += size;
    const Free whole{chunks_.back().first, size};
    free_.insert(std::ranges::lower_bound(free_, whole.begin, {}, &Free::begin), whole);
}

/// One chunk for all that lay in several, with room for the holes that another order of blocks may leave: pages that
/// nothing touches cost nothing.
///
/// Runs when blocks are given back, in destructors too, so it must not fail: without the memory it leaves the arena
/// empty.
void Arena::merge_chunks() {
    for (const auto& [chunk, size] : chunks_)
        to_system(chunk);
    chunks_.clear();
    free_.clear();
    const std::size_t size = capacity_ + capacity_ / 2;
    capacity_ = 0;
    void* const memory = ::operator new (size, std::align_val_t{kAlignment}, std::nothrow);
    if (memory == nullptr)
        return;
    chunks_.emplace_back(static_cast<std::byte*>(memory), size);
    free_.push_back({chunks_.front().first, size});
    capacity_ = size;
}

detail::BufferHeader* detail::take_buffer(std::size_t bytes, Arena* arena) {
    const std::size_t whole = bytes + sizeof(BufferHeader);
    void* const memory = arena != nullptr ? arena->take(whole) : from_system(whole);
    return new (memory) BufferHeader{arena, whole, 1};
}

void detail::give_buffer(BufferHeader* header) {
    if (header->arena != nullptr)
        header->arena->give(header, header->bytes);
    else
        to_system(header);
}

}  // namespace dither
