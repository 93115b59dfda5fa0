#include "transport/shared_bytes.hpp"

#include "transport/detail/crc32c.hpp"

#include <algorithm>
#include <mutex>
#include <utility>

namespace dither {

struct SharedBytes::Content {
    explicit Content(std::vector<std::byte> made) : bytes(std::move(made)) {}

    const std::vector<std::byte> bytes;
    mutable std::once_flag is_summed;
    mutable std::uint32_t checksum = 0;
};

SharedBytes::SharedBytes(std::vector<std::byte> bytes)
    : content_(bytes.empty() ? nullptr : std::make_shared<const Content>(std::move(bytes))) {}

std::size_t SharedBytes::size() const {
    return empty() ? 0 : content_->bytes.size();
}

const std::byte* SharedBytes::data() const {
    return empty() ? nullptr : content_->bytes.data();
}

std::uint32_t SharedBytes::checksum() const {
    if (empty())
        return detail::crc32c({});
    std::call_once(content_->is_summed, [this] { content_->checksum = detail::crc32c(content_->bytes); });
    return content_->checksum;
}

bool SharedBytes::operator==(const SharedBytes& other) const {
    return content_ == other.content_ || std::ranges::equal(*this, other);
}

}  // namespace dither
