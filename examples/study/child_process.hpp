// Programs that run beside this one.
#pragma once

#include <sys/types.h>

#include <csignal>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace dither {

struct Command {
    std::vector<std::string> arguments;  ///< the program first: a path, or a name that PATH finds
    std::filesystem::path output;        ///< what takes its standard output
    std::filesystem::path errors;        ///< what its standard error is appended to
};

/// How a process ended.
struct Ending {
    int exit_code = 0;
    int signal = 0;  ///< that killed it; 0: none

    bool good() const { return exit_code == 0 && signal == 0; }
    std::string text() const;  ///< "ended with 2", "was killed by signal 9"
};

/// A process in a group of its own, so that the terminal's signals do not reach it. The kernel kills it when this
/// program dies, however it does. Destruction kills what still runs. For single-threaded programs.
class ChildProcess {
public:
    /// Throws IoError. A program that cannot be executed ends with 127 and says so on its standard error.
    explicit ChildProcess(const Command& command);
    ChildProcess(ChildProcess&& other) noexcept;
    ChildProcess& operator=(ChildProcess&& other) noexcept;
    ~ChildProcess();

    /// Whether it has ended, and how, without waiting; the same answer ever after.
    std::optional<Ending> ending();
    /// To it and its own children.
    void signal(int number);

private:
    pid_t pid_ = -1;
    std::optional<Ending> ending_;
};

/// SIGINT, SIGTERM and SIGCHLD held back and taken one by one, for the object's life.
class SignalQueue {
public:
    SignalQueue();
    ~SignalQueue();
    SignalQueue(const SignalQueue&) = delete;
    SignalQueue& operator=(const SignalQueue&) = delete;

    /// The next one, or 0 after a second without any.
    int next();

private:
    sigset_t before_{};
};

}  // namespace dither
