#include "node/daemon/uplink_budget.hpp"

#include <algorithm>
#include <fstream>
#include <utility>

#include "core/durable_file.hpp"
#include "core/error.hpp"

namespace dither {

UplinkBudget::UplinkBudget(std::filesystem::path file, std::uint64_t bytes_a_day, std::function<Day()> today,
                           std::function<std::uint64_t()> written)
    : file_(std::move(file)), bytes_a_day_(bytes_a_day), today_(std::move(today)), written_(std::move(written)) {
    read();
}

std::uint64_t UplinkBudget::left() {
    begin_day();
    return bytes_a_day_ - std::min(used_, bytes_a_day_);
}

bool UplinkBudget::may_fit() {
    const bool fits = last_update_ <= left() && left() > 0;
    return fits || !std::exchange(tried_, true);
}

bool UplinkBudget::take_update(std::uint64_t bytes) {
    const bool fits = bytes <= left();
    last_update_ = bytes;
    tried_ = true;
    if (fits)
        pay(bytes);
    keep();
    return fits;
}

void UplinkBudget::take(std::uint64_t bytes) {
    begin_day();
    pay(bytes);
    keep();
}

void UplinkBudget::settle() {
    if (const std::uint64_t written = written_(); written > paid_)
        take(written - paid_);
}

void UplinkBudget::settle_for_good() {
    settle();
    paid_ = written_();
}

void UplinkBudget::pay(std::uint64_t bytes) {
    used_ += bytes;
    paid_ += bytes;
}

void UplinkBudget::read() {
    std::ifstream in(file_);
    if (!in)
        return;
    if (!(in >> day_ >> used_ >> last_update_) || in.get() != '\n' || in.peek() != std::ifstream::traits_type::eof())
        throw InputError(fmt::format("{}: expected 'DAY USED LAST', three numbers", file_.string()));
    tried_ = true;
}

void UplinkBudget::begin_day() {
    if (const Day today = today_(); today > day_) {
        day_ = today;
        used_ = 0;
        tried_ = false;
    }
}

void UplinkBudget::keep() const {
    write_durably(file_, fmt::format("{} {} {}\n", day_, used_, last_update_));
}

}  // namespace dither
