#include "examples/study/study_folder.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "core/error.hpp"

namespace dither {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

json to_json(const StudyText& text) {
    return {{"study_file", text.study_file}, {"study", text.study},  {"job_file", text.job_file}, {"job", text.job},
            {"profile", text.profile},       {"set", text.overrides}};
}

StudyText from_json(const json& object) {
    return {.study_file = object.at("study_file"),
            .study = object.at("study"),
            .job_file = object.at("job_file"),
            .job = object.at("job"),
            .profile = object.at("profile"),
            .overrides = object.at("set")};
}

}  // namespace

StudyFolder::StudyFolder(fs::path folder) : path_(std::move(folder)) {
    if (!fs::exists(study_file()))
        throw InputError(fmt::format("{} holds no study", path_.string()));
    text_ = load();
}

StudyFolder::StudyFolder(fs::path folder, const StudyText& text) : path_(std::move(folder)), text_(text) {
    try {
        create_folders(cells());
    } catch (const IoError& error) {
        throw InputError(error.what());
    }
    lock();
    const std::string name = parse_study(text).name;
    if (fs::exists(study_file()))
        if (const std::string other = parse_study(load()).name; other != name)
            throw InputError(fmt::format("{} holds the study \"{}\", expected \"{}\"; choose another folder",
                                         path_.string(), other, name));
    write_durably(study_file(), to_json(text).dump(1, ' ', false, json::error_handler_t::replace) + '\n');
}

void StudyFolder::lock() {
    const fs::path file = path_ / ".lock";
    lock_ = FileDescriptor::open(file, O_RDWR | O_CREAT);
    if (!lock_.valid())
        throw InputError(fmt::format("{}: cannot open the lock: {}", file.string(), std::strerror(errno)));
    if (::flock(lock_.get(), LOCK_EX | LOCK_NB) == 0)
        return;
    throw InputError(errno == EWOULDBLOCK ? fmt::format("{} is in use by another process", path_.string())
                                          : fmt::format("{}: cannot lock: {}", file.string(), std::strerror(errno)));
}

StudyText StudyFolder::load() const {
    try {
        return from_json(read_json(study_file()));
    } catch (const std::exception& error) {  // not JSON, or not a study's
        throw InputError(fmt::format("{}: expected a study: {}", study_file().string(), error.what()));
    }
}

}  // namespace dither
