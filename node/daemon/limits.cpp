#include "node/daemon/limits.hpp"

#include <sched.h>
#include <sys/resource.h>

#include <cerrno>
#include <cstring>

#include "core/error.hpp"

namespace dither {
namespace {

void check(int result, const char* what) {
    if (result != 0)
        throw IoError(fmt::format("cannot limit {}: {}", what, std::strerror(errno)));
}

/// The first so many of those that the process may use now.
void limit_processors(unsigned count) {
    cpu_set_t allowed;
    check(::sched_getaffinity(0, sizeof allowed, &allowed), "processors");
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
        if (CPU_ISSET(cpu, &allowed) && count-- == 0) {
            for (int other = cpu; other < CPU_SETSIZE; ++other)
                CPU_CLR(other, &allowed);
            break;
        }
    check(::sched_setaffinity(0, sizeof allowed, &allowed), "processors");
}

}  // namespace

void apply(const ResourceLimits& limits) {
    if (limits.processors > 0)
        limit_processors(limits.processors);
    if (limits.memory > 0) {
        const rlimit bytes{.rlim_cur = limits.memory, .rlim_max = limits.memory};
        check(::setrlimit(RLIMIT_DATA, &bytes), "memory");
    }
    if (limits.niceness > 0)
        check(::setpriority(PRIO_PROCESS, 0, limits.niceness), "the niceness");
}

}  // namespace dither
