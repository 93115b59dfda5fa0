#include "core/detail/combinations.hpp"

#include "core/error.hpp"

#include <vector>

namespace dither::detail {

void Combinations::forbid(bool broken, std::initializer_list<std::string_view> keys, std::string_view reason) const {
    if (!broken)
        return;
    std::vector<std::string> settings;
    for (const std::string_view key : keys) {
        const Option& option = *options_.find(key);
        settings.push_back(fmt::format("{} = {} ({})", key, option.text(), option.where));
    }
    throw InputError(fmt::format("{}: {}: {}", source_, fmt::join(settings, ", "), reason));
}

}  // namespace dither::detail
