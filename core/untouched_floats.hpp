// Memory that is there for whoever needs it, and costs nothing where nobody does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <span>

namespace dither {

/// Zeros, aligned to 64 bytes. Large ones come from the system page by page, when they are first written. Fixed in
/// size; not copyable. Nothing but assigning may be done to one that was moved from.
class UntouchedFloats {
public:
    UntouchedFloats() = default;
    /// Throws std::bad_alloc.
    explicit UntouchedFloats(std::size_t count)
        : memory_(static_cast<std::byte*>(std::calloc(count * sizeof(float) + kAlignment, 1))), count_(count) {
        if (!memory_)
            throw std::bad_alloc();
    }

    std::span<float> values() {
        const auto address = reinterpret_cast<std::uintptr_t>(memory_.get());
        const std::size_t skipped = (kAlignment - address % kAlignment) % kAlignment;
        return {reinterpret_cast<float*>(memory_.get() + skipped), count_};
    }
    float* data() { return values().data(); }

private:
    static constexpr std::size_t kAlignment = 64;
    struct Free {
        void operator()(std::byte* memory) const { std::free(memory); }
    };

    std::unique_ptr<std::byte, Free> memory_;
    std::size_t count_ = 0;
};

}  // namespace dither
