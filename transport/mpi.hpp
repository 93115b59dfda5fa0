// Hub and channel over MPI: rank 0 aggregates, the others host clients. Waiting probes and sleeps (OpenMPI's blocking
// receive burns a core); messages of any length go in chunks below 2^31 bytes.
#pragma once

#include "transport/hub.hpp"

#include <memory>

namespace dither {

/// Initializes and finalizes MPI, once a process, in main. Outside mpirun it does nothing and rank() is 0 of 1.
class MpiSession {
public:
    MpiSession(int& argc, char**& argv);
    ~MpiSession();
    MpiSession(const MpiSession&) = delete;
    MpiSession& operator=(const MpiSession&) = delete;

    /// Whether this process was started by an MPI launcher.
    bool active() const { return active_; }
    int rank() const { return rank_; }
    int size() const { return size_; }
    /// Ends every rank at once, without waiting for them: the last resort of main.
    [[noreturn]] void abort(int exit_code);

private:
    bool active_ = false;
    int rank_ = 0;
    int size_ = 1;
};

/// Both need an active session, which they must not outlive. Ends part in an orderly way: close() and the destructors
/// deliver what was sent, then wait, asleep, until the other end has let go as well.
///
/// On rank 0: peers 1 .. size - 1. `chunk_bytes` (1 .. 2^31 - 1) is the largest single MPI message; tests make it
/// small.
std::unique_ptr<Hub> make_mpi_hub(const MpiSession& session, std::size_t chunk_bytes = std::size_t{1} << 30);
/// On the other ranks.
std::unique_ptr<Channel> make_mpi_channel(const MpiSession& session, std::size_t chunk_bytes = std::size_t{1} << 30);

}  // namespace dither
