// A frame crosses MPI as one message of its 24-byte header and then its body in messages of at most chunk_bytes, all
// with one tag, so that MPI's own rule (messages of one sender and tag do not overtake) keeps them in order. An empty
// message is a goodbye: the last thing that an end says. Each end reads on until it has heard the other's, so that
// whatever was sent is received and no send is left open when MPI ends.
#include "transport/mpi.hpp"

#include "core/error.hpp"
#include "transport/detail/frame_assembler.hpp"

#include <mpi.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <deque>
#include <limits>
#include <thread>
#include <utility>
#include <vector>

namespace dither {
namespace {

constexpr int kTag = 1;
constexpr std::chrono::milliseconds kPatience{100};

void check(int code, const char* call) {
    if (code == MPI_SUCCESS) [[likely]]
        return;
    std::array<char, MPI_MAX_ERROR_STRING> text{};
    int length = 0;
    MPI_Error_string(code, text.data(), &length);
    throw IoError(fmt::format("{}: {}", call, std::string_view(text.data(), static_cast<std::size_t>(length))));
}

/// Sleeps ever longer while nothing happens: OpenMPI's own waiting keeps a core busy.
class Backoff {
public:
    /// `transferring`: bytes are under way and move only when MPI is asked.
    void sleep(bool transferring) {
        delay_ = std::min(delay_, transferring ? kLongestTransferring : kLongest);
        std::this_thread::sleep_for(delay_);
        delay_ *= 2;
    }
    void reset() { delay_ = kShortest; }

private:
    using Delay = std::chrono::microseconds;
    static constexpr Delay kShortest{20};
    static constexpr Delay kLongestTransferring{100};
    static constexpr Delay kLongest{2000};
    Delay delay_ = kShortest;
};

/// Frames on their way out. Owns their bytes until MPI has taken them.
class Outbox {
public:
    explicit Outbox(std::size_t chunk_bytes) : chunk_bytes_(chunk_bytes) {}

    void post(int rank, std::vector<std::byte> frame) {
        Sending& sending = queue_.emplace_back(Sending{std::move(frame), {}});
        const std::span<std::byte> all(sending.frame);
        start(rank, all.first(std::min(kFrameHeaderBytes, all.size())), sending);
        for (std::size_t at = kFrameHeaderBytes; at < all.size(); at += chunk_bytes_)
            start(rank, all.subspan(at, std::min(chunk_bytes_, all.size() - at)), sending);
    }

    void post_goodbye(int rank) { post(rank, {}); }

    /// Lets go of what has been sent.
    void progress() {
        std::erase_if(queue_, [](Sending& sending) {
            return std::all_of(sending.requests.begin(), sending.requests.end(), [](MPI_Request& request) {
                int done = 0;
                check(MPI_Test(&request, &done, MPI_STATUS_IGNORE), "MPI_Test");
                return done != 0;
            });
        });
    }

    bool busy() const { return !queue_.empty(); }

private:
    struct Sending {
        std::vector<std::byte> frame;
        std::vector<MPI_Request> requests;
    };

    static void start(int rank, std::span<std::byte> bytes, Sending& sending) {
        MPI_Request request = MPI_REQUEST_NULL;
        check(MPI_Isend(bytes.data(), static_cast<int>(bytes.size()), MPI_BYTE, rank, kTag, MPI_COMM_WORLD, &request),
              "MPI_Isend");
        sending.requests.push_back(request);
    }

    std::size_t chunk_bytes_;
    std::deque<Sending> queue_;
};

/// One MPI message on its way in, whoever sends it.
class Inbox {
public:
    struct Arrival {
        int rank = 0;
        std::size_t size = 0;
    };

    /// The message that has arrived since, if any. place(rank, size) gives the memory for a message that begins to
    /// arrive; it must stay until the message has.
    template <typename Place>
    std::optional<Arrival> poll(Place&& place) {
        if (!busy() && !begin(place))
            return std::nullopt;
        int done = 0;
        check(MPI_Test(&request_, &done, MPI_STATUS_IGNORE), "MPI_Test");
        return done != 0 ? std::optional(arrival_) : std::nullopt;
    }

    bool busy() const { return request_ != MPI_REQUEST_NULL; }

private:
    template <typename Place>
    bool begin(Place&& place) {
        int found = 0;
        MPI_Message message = MPI_MESSAGE_NULL;
        MPI_Status status;
        check(MPI_Improbe(MPI_ANY_SOURCE, kTag, MPI_COMM_WORLD, &found, &message, &status), "MPI_Improbe");
        if (found == 0)
            return false;
        int size = 0;
        check(MPI_Get_count(&status, MPI_BYTE, &size), "MPI_Get_count");
        arrival_ = {status.MPI_SOURCE, static_cast<std::size_t>(size)};
        const std::span<std::byte> bytes = place(arrival_.rank, arrival_.size);
        check(MPI_Imrecv(bytes.data(), size, MPI_BYTE, &message, &request_), "MPI_Imrecv");
        return true;
    }

    MPI_Request request_ = MPI_REQUEST_NULL;
    Arrival arrival_;
};

class MpiHub final : public Hub {
public:
    MpiHub(int size, std::size_t chunk_bytes) : outbox_(chunk_bytes), peers_(static_cast<std::size_t>(size - 1)) {
        for (int rank = 1; rank < size; ++rank)
            events_.push_back(PeerJoined{static_cast<PeerId>(rank)});
    }
    MpiHub(const MpiHub&) = delete;
    MpiHub& operator=(const MpiHub&) = delete;
    ~MpiHub() override { close(); }

    std::optional<HubEvent> next_event(Clock::time_point deadline) override {
        const auto until = std::min(deadline, Clock::now() + kPatience);
        Backoff backoff;
        if (events_.empty())
            progress();
        while (events_.empty() && Clock::now() < until)
            wait(backoff);
        if (events_.empty())
            return std::nullopt;
        HubEvent event = std::move(events_.front());
        events_.pop_front();
        return event;
    }

    std::size_t send(PeerId id, const Message& message) override {
        if (!peer(id).heard)
            return 0;
        std::vector<std::byte> frame = encode_frame(message);
        const std::size_t size = frame.size();
        try {
            outbox_.post(static_cast<int>(id), std::move(frame));
            outbox_.progress();
        } catch (const IoError& error) {
            lose(id, error.what());
            return 0;
        }
        return size;
    }

    void admit(PeerId id, const FrameLimits& limits) override { peer(id).limits = limits; }

    void drop(PeerId id, const std::string& reason) override {
        send(id, Stop{reason});
        lose(id, reason);
        std::erase_if(events_, [id](const HubEvent& event) {
            return std::visit([](const auto& e) { return e.peer; }, event) == id;
        });
    }

    void close() override {
        for (PeerId id = 1; id <= peers_.size(); ++id)
            lose(id, "the hub is closed");
        Backoff backoff;
        while (!all_gone() || (outbox_.busy() && !failed_))
            wait(backoff);
        events_.clear();
    }

private:
    struct Peer {
        detail::FrameAssembler assembler;
        FrameLimits limits;
        bool heard = true;  ///< false once it is lost: what still comes is thrown away
        bool gone = false;  ///< it has said goodbye, or MPI has failed
    };

    Peer& peer(PeerId id) {
        require(id >= 1 && id <= peers_.size(), "peer {} of {}", id, peers_.size());
        return peers_[id - 1];
    }

    bool all_gone() const {
        return std::all_of(peers_.begin(), peers_.end(), [](const Peer& peer) { return peer.gone; });
    }

    void wait(Backoff& backoff) {
        if (progress())
            backoff.reset();
        else
            backoff.sleep(outbox_.busy() || inbox_.busy());
    }

    /// Moves bytes both ways; true if a message came in.
    bool progress() {
        try {
            outbox_.progress();
            const auto arrival = inbox_.poll([this](int rank, std::size_t size) { return place(rank, size); });
            if (arrival)
                take(static_cast<PeerId>(arrival->rank), arrival->size);
            return arrival.has_value();
        } catch (const IoError& error) {
            fail(error.what());
            return false;
        }
    }

    std::span<std::byte> place(int rank, std::size_t size) {
        const auto id = static_cast<PeerId>(rank);
        if (peers_[id - 1].heard && size > 0)
            return peers_[id - 1].assembler.place(size);
        discarded_.resize(size);
        return discarded_;
    }

    void take(PeerId id, std::size_t size) {
        Peer& peer = peers_[id - 1];
        if (size == 0) {
            peer.gone = true;
            lose(id, "the peer has left");
        } else if (peer.heard) {
            try {
                if (auto message = peer.assembler.arrived(peer.limits))
                    events_.push_back(Received{id, std::move(*message), peer.assembler.wire_bytes()});
            } catch (const FormatError& error) {
                lose(id, error.what());
            }
        }
    }

    void lose(PeerId id, const std::string& reason) {
        if (!std::exchange(peers_[id - 1].heard, false))
            return;
        events_.push_back(PeerLost{id, reason});
        try {
            outbox_.post_goodbye(static_cast<int>(id));
        } catch (const IoError&) {
            peers_[id - 1].gone = true;
        }
    }

    /// MPI itself has failed, and does not say whose fault it was: nobody can be heard any more.
    void fail(const std::string& reason) {
        failed_ = true;
        for (PeerId id = 1; id <= peers_.size(); ++id) {
            if (std::exchange(peers_[id - 1].heard, false))
                events_.push_back(PeerLost{id, reason});
            peers_[id - 1].gone = true;
        }
    }

    Outbox outbox_;
    Inbox inbox_;
    std::vector<Peer> peers_;  ///< peer p is peers_[p - 1]
    std::deque<HubEvent> events_;
    std::vector<std::byte> discarded_;
    bool failed_ = false;
};

class MpiChannel final : public Channel {
public:
    explicit MpiChannel(std::size_t chunk_bytes) : outbox_(chunk_bytes) {}
    MpiChannel(const MpiChannel&) = delete;
    MpiChannel& operator=(const MpiChannel&) = delete;

    ~MpiChannel() override {
        try {
            part();
        } catch (const IoError&) {
            // There is nobody left to part from.
        }
    }

    std::optional<Message> receive() override {
        Backoff backoff;
        while (!gone_) {
            const auto size = poll(backoff, [this](std::size_t bytes) { return assembler_.place(bytes); });
            if (size > 0) {
                if (auto message = assembler_.arrived(FrameLimits::for_node())) {
                    drain();
                    return message;
                }
            }
        }
        return std::nullopt;
    }

    void send(const Message& message) override {
        if (gone_)
            return;
        outbox_.post(kHubRank, encode_frame(message));
        outbox_.progress();
    }

private:
    static constexpr int kHubRank = 0;

    /// Who has received may work for long, and nothing moves meanwhile: what was said before goes first.
    void drain() {
        Backoff backoff;
        for (outbox_.progress(); outbox_.busy(); outbox_.progress())
            backoff.sleep(true);
    }

    /// The bytes of the message that has arrived, or 0 after some sleep if none has or if it was the hub's goodbye.
    template <typename Place>
    std::size_t poll(Backoff& backoff, Place&& place) {
        outbox_.progress();
        const auto arrival = inbox_.poll(
            [&](int /*rank*/, std::size_t size) { return size > 0 ? place(size) : std::span<std::byte>(); });
        if (!arrival) {
            backoff.sleep(outbox_.busy() || inbox_.busy());
            return 0;
        }
        backoff.reset();
        gone_ = arrival->size == 0;
        return arrival->size;
    }

    /// Says goodbye, and throws away what still comes until the hub has said it too.
    void part() {
        outbox_.post_goodbye(kHubRank);
        std::vector<std::byte> discarded;
        Backoff backoff;
        while (outbox_.busy() || !gone_)
            poll(backoff, [&](std::size_t size) {
                discarded.resize(size);
                return std::span(discarded);
            });
    }

    Outbox outbox_;
    Inbox inbox_;
    detail::FrameAssembler assembler_;
    bool gone_ = false;
};

bool started_by_launcher() {
    constexpr std::array kMarks{"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK"};
    return std::any_of(kMarks.begin(), kMarks.end(), [](const char* mark) { return std::getenv(mark) != nullptr; });
}

void require_usable(const MpiSession& session, std::size_t chunk_bytes) {
    require(session.active(), "the MPI hub needs a process that was started by mpirun");
    require(chunk_bytes >= 1 && chunk_bytes <= std::numeric_limits<int>::max(), "chunks of {} bytes", chunk_bytes);
}

}  // namespace

MpiSession::MpiSession(int& argc, char**& argv) : active_(started_by_launcher()) {
    if (!active_)
        return;
    int provided = MPI_THREAD_SINGLE;
    check(MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread");
    check(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    check(MPI_Comm_rank(MPI_COMM_WORLD, &rank_), "MPI_Comm_rank");
    check(MPI_Comm_size(MPI_COMM_WORLD, &size_), "MPI_Comm_size");
}

MpiSession::~MpiSession() {
    if (active_)
        MPI_Finalize();
}

void MpiSession::abort(int exit_code) {
    if (active_)
        MPI_Abort(MPI_COMM_WORLD, exit_code);
    std::_Exit(exit_code);
}

std::unique_ptr<Hub> make_mpi_hub(const MpiSession& session, std::size_t chunk_bytes) {
    require_usable(session, chunk_bytes);
    require(session.rank() == 0, "rank {} is not the aggregator", session.rank());
    return std::make_unique<MpiHub>(session.size(), chunk_bytes);
}

std::unique_ptr<Channel> make_mpi_channel(const MpiSession& session, std::size_t chunk_bytes) {
    require_usable(session, chunk_bytes);
    require(session.rank() != 0, "rank 0 is the aggregator, not a node");
    return std::make_unique<MpiChannel>(chunk_bytes);
}

}  // namespace dither
