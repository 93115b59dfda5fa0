// Failures, sorted by what the caller can do about them.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace dither {

/// The user's input is wrong: command line, job file, data file or output folder. The message names the key, file or
/// line and what was expected. Programs print it and exit with 2 before anything is written.
class InputError : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// The machine failed: a write, an fsync, a socket. Programs print it and exit with 1.
class IoError : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// The disk is full: what was to be written is not, and nothing else was harmed.
class DiskFull : public IoError {
public:
    using IoError::IoError;
};

/// Bytes from a peer or a trusted file do not say what they must. The peer is refused; the process goes on.
class FormatError : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// Training cannot go on: the loss or a parameter is not finite. The round is abandoned with this cause.
class TrainingError : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// A precondition of a function was broken: a defect of the calling code.
class PreconditionError : public std::logic_error {
public:
    using std::logic_error::logic_error;
};

/// Throws PreconditionError with the formatted message unless `holds`; formats only on failure.
template <typename... Args>
void require(bool holds, fmt::format_string<Args...> message, Args&&... args) {
    if (!holds) [[unlikely]]
        throw PreconditionError(fmt::format(message, std::forward<Args>(args)...));
}

}  // namespace dither
