#include "node/daemon/state_folder.hpp"

#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <utility>

#include "core/error.hpp"
#include "transport/node_id.hpp"

namespace dither {
namespace {

void check_same(const std::string& one, const std::string& id, const std::string& where) {
    if (one != id)
        throw InputError(fmt::format("{}: this node is '{}' there, and '{}' elsewhere", where, one, id));
}

}  // namespace

StateFolder::StateFolder(std::filesystem::path folder) : path_(std::move(folder)) {
    try {
        create_folders(path_);
    } catch (const IoError& error) {
        throw InputError(error.what());
    }
    const std::filesystem::path file = path_ / ".lock";
    lock_ = FileDescriptor::open(file, O_RDWR | O_CREAT);
    if (!lock_.valid())
        throw InputError(fmt::format("{}: cannot open the lock: {}", file.string(), std::strerror(errno)));
    if (::flock(lock_.get(), LOCK_EX | LOCK_NB) == 0)
        return;
    if (errno == EWOULDBLOCK)
        throw InputError(fmt::format("{} is in use by another node", path_.string()));
    throw InputError(fmt::format("{}: cannot lock: {}", file.string(), std::strerror(errno)));
}

std::optional<std::string> StateFolder::id() const {
    std::ifstream in(id_file());
    if (!in)
        return std::nullopt;
    std::string id;
    std::getline(in, id);
    if (!is_node_id(id))
        throw InputError(fmt::format("{}: no node id: expected [a-z0-9_-]{{1,64}}", id_file().string()));
    return id;
}

void StateFolder::keep_id(const std::string& id) const {
    write_durably(id_file(), id + '\n');
}

std::string identify(const StateFolder& folder, const std::string& wanted, const std::string& certified,
                     std::uint64_t seed) {
    const std::optional<std::string> kept = folder.id();
    const std::string id = !wanted.empty()      ? wanted
                           : !certified.empty() ? certified
                                                : kept.value_or(fmt::format("node-{:016x}", seed));
    if (!is_node_id(id))
        throw InputError(fmt::format("'{}' is no node id: expected [a-z0-9_-]{{1,64}}", id));
    if (!certified.empty())
        check_same(certified, id, "the certificate");
    if (kept)
        check_same(*kept, id, (folder.path() / "id").string());
    else
        folder.keep_id(id);
    return id;
}

}  // namespace dither
