// The folder of a study, DIR: its lock (.lock), what it was made from (study.json), its cells (cells/HASH/), its
// results (results.jsonl, results.csv), its report (report.md) and plots (plots/).
#pragma once

#include <filesystem>

#include "core/durable_file.hpp"
#include "examples/study/cells.hpp"
#include "examples/study/study_file.hpp"

namespace dither {

class StudyFolder {
public:
    /// One that holds a study, to read it. Throws InputError where it does not.
    explicit StudyFolder(std::filesystem::path folder);
    /// To run `text` in it; made if it is missing, locked against a second process for the object's life. Throws
    /// InputError where it is in use, cannot be made, or holds a study of another name.
    StudyFolder(std::filesystem::path folder, const StudyText& text);

    const std::filesystem::path& path() const { return path_; }
    const StudyText& text() const { return text_; }
    std::filesystem::path cells() const { return path_ / "cells"; }
    CellFolder cell(const std::string& hash, const Study& study) const { return {cells() / hash, study}; }

private:
    std::filesystem::path study_file() const { return path_ / "study.json"; }
    void lock();
    StudyText load() const;

    std::filesystem::path path_;
    StudyText text_;
    FileDescriptor lock_;
};

}  // namespace dither
