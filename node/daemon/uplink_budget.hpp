// A metered uplink: so many bytes a day, counted over restarts.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>

namespace dither {

/// A frame is paid for in a file before it is sent, so that a crash never makes it less. What else the network took for
/// it is known only afterwards, and settled then: TLS, its handshakes, heartbeats. Not thread-safe. Throws IoError
/// where the file cannot be written.
///
/// The file: a line "DAY USED LAST\n" of decimal numbers. DAY is `today`'s, USED the bytes of that day, LAST the last
/// update's.
class UplinkBudget {
public:
    using Day = std::int64_t;

    /// `today` numbers the days, UTC or any other; a later day than the file's begins with nothing used. A clock
    /// that goes back gives nothing back: until it has caught up, the day is the file's. `written`: the bytes that
    /// sockets have taken since the process began. Throws InputError if the file is not what it should be.
    UplinkBudget(std::filesystem::path file, std::uint64_t bytes_a_day, std::function<Day()> today,
                 std::function<std::uint64_t()> written);

    std::uint64_t left();
    /// Whether an update is likely to fit: as large as the last one. The first of a day always may try: what it takes
    /// may have changed.
    bool may_fit();
    /// Takes an update's bytes; false, and takes nothing, if they do not fit.
    bool take_update(std::uint64_t bytes);
    /// Takes what must be sent anyway, even beyond the budget.
    void take(std::uint64_t bytes);
    /// Takes what sockets have taken and nobody has paid for.
    void settle();
    /// Likewise, when a connection has ended: what was paid for and never sent is not given back, and pays for nothing
    /// else.
    void settle_for_good();

    std::uint64_t last_update() const { return last_update_; }
    std::uint64_t bytes_a_day() const { return bytes_a_day_; }

private:
    void read();
    void begin_day();
    void pay(std::uint64_t bytes);
    void keep() const;

    std::filesystem::path file_;
    std::uint64_t bytes_a_day_;
    std::function<Day()> today_;
    std::function<std::uint64_t()> written_;
    std::uint64_t paid_ = 0;  ///< of what written_() counts
    Day day_ = 0;
    std::uint64_t used_ = 0;
    std::uint64_t last_update_ = 0;
    bool tried_ = false;  ///< an update, on this day
};

}  // namespace dither
