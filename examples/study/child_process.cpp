#include "examples/study/child_process.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

#include "core/durable_file.hpp"

namespace dither {
namespace {

constexpr int kCannotExecute = 127;

sigset_t handled_signals() {
    sigset_t set;
    sigemptyset(&set);
    for (const int signal : {SIGINT, SIGTERM, SIGCHLD})
        sigaddset(&set, signal);
    return set;
}

FileDescriptor open_for(const std::filesystem::path& file, int flags) {
    FileDescriptor descriptor = FileDescriptor::open(file, O_WRONLY | O_CREAT | flags);
    if (!descriptor.valid())
        throw_io_error(file, "open");
    return descriptor;
}

/// Between fork and exec: nothing but system calls.
[[noreturn]] void become(char* const* arguments, int output, int errors, pid_t parent) {
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    for (const int signal : {SIGINT, SIGTERM, SIGCHLD})
        ::signal(signal, SIG_DFL);
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)  // it died before the line above
        _exit(kCannotExecute);
    const int input = ::open("/dev/null", O_RDONLY);
    dup2(input, STDIN_FILENO);
    dup2(output, STDOUT_FILENO);
    dup2(errors, STDERR_FILENO);
    execvp(arguments[0], arguments);
    dprintf(STDERR_FILENO, "%s: cannot be started: %s\n", arguments[0], std::strerror(errno));
    _exit(kCannotExecute);
}

}  // namespace

std::string Ending::text() const {
    return signal != 0 ? fmt::format("was killed by signal {}", signal) : fmt::format("ended with {}", exit_code);
}

ChildProcess::ChildProcess(const Command& command) {
    const FileDescriptor output = open_for(command.output, O_TRUNC);
    const FileDescriptor errors = open_for(command.errors, O_APPEND);
    std::vector<std::string> copies = command.arguments;
    std::vector<char*> arguments;
    for (std::string& argument : copies)
        arguments.push_back(argument.data());
    arguments.push_back(nullptr);
    const pid_t parent = getpid();
    pid_ = fork();
    if (pid_ == 0)
        become(arguments.data(), output.get(), errors.get(), parent);
    if (pid_ < 0)
        throw_io_error(command.arguments[0], "start");
    setpgid(pid_, pid_);  // here too: a signal to the group may come before the child gets there
}

ChildProcess::ChildProcess(ChildProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), ending_(other.ending_) {}

ChildProcess& ChildProcess::operator=(ChildProcess&& other) noexcept {
    std::swap(pid_, other.pid_);
    std::swap(ending_, other.ending_);
    return *this;
}

ChildProcess::~ChildProcess() {
    if (pid_ < 0 || ending())
        return;
    signal(SIGKILL);
    ::waitpid(pid_, nullptr, 0);
}

std::optional<Ending> ChildProcess::ending() {
    int status = 0;
    if (!ending_ && ::waitpid(pid_, &status, WNOHANG) == pid_)
        ending_ = WIFSIGNALED(status) ? Ending{.signal = WTERMSIG(status)} : Ending{.exit_code = WEXITSTATUS(status)};
    return ending_;
}

void ChildProcess::signal(int number) {
    if (!ending())
        ::kill(-pid_, number);
}

SignalQueue::SignalQueue() {
    const sigset_t set = handled_signals();
    sigprocmask(SIG_BLOCK, &set, &before_);
}

SignalQueue::~SignalQueue() {
    sigprocmask(SIG_SETMASK, &before_, nullptr);
}

int SignalQueue::next() {
    const sigset_t set = handled_signals();
    constexpr timespec kSecond{.tv_sec = 1, .tv_nsec = 0};
    const int signal = sigtimedwait(&set, nullptr, &kSecond);
    return signal < 0 ? 0 : signal;
}

}  // namespace dither
