#include "node/daemon/narration.hpp"

#include <spdlog/spdlog.h>

namespace dither {
namespace {

/// One function for each message that says something; the others are silent.
class Narrator {
public:
    explicit Narrator(spdlog::logger& log) : log_(log) {}

    void heard(const Welcome& welcome) { log_.info("welcome: this node speaks for client {}", welcome.client); }
    void heard(const UpdateAck& ack) {
        if (ack.accepted)
            log_.info("round {}: the update is counted", ack.round);
        else
            log_.warn("round {}: the update is refused: {}", ack.round, ack.reason);
    }
    void heard(const RoundCommitted& committed) { log_.info("round {}: committed", committed.round); }
    void heard(const auto&) {}

    void said(const Update& update) {
        log_.info("round {}: trained on {} samples in {:.1f} s, loss {:.4f}; the update has {} bytes", update.round,
                  update.report.samples, update.report.seconds, update.report.train_loss, update.payload.size());
    }
    void said(const Failed& failed) { log_.warn("round {}: {}", failed.round, failed.reason); }
    void said(const auto&) {}

private:
    spdlog::logger& log_;
};

}  // namespace

std::function<void(const Message& heard, const Message* answer)> narrate(spdlog::logger& log) {
    return [narrator = Narrator(log)](const Message& heard, const Message* answer) mutable {
        std::visit([&](const auto& message) { narrator.heard(message); }, heard);
        if (answer != nullptr)
            std::visit([&](const auto& message) { narrator.said(message); }, *answer);
    };
}

}  // namespace dither
