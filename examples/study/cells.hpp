// The cells of a study: which jobs it runs, and which of its rows each one answers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "examples/study/study_file.hpp"

namespace dither {

/// A run. Methods whose jobs are equal share it.
struct Cell {
    std::string hash;  ///< of the resolved job and Dither's version: 16 hexadecimal digits
    std::string job;   ///< resolved, TOML
};

/// A method at a point of the grid with one seed.
struct Row {
    std::size_t method = 0;
    std::size_t point = 0;  ///< of the grid
    std::uint32_t seed = 0;
    std::string cell;     ///< its hash; empty where there is no such job
    std::string problem;  ///< why there is none: an impossible combination of options
};

struct StudyPlan {
    std::vector<Row> rows;    ///< by method, point and seed
    std::vector<Cell> cells;  ///< in the order in which they are to run: seed by seed, so that half a study compares
};

/// Throws InputError where the job file is wrong, or a single key that the study sets: it names the study's line.
StudyPlan plan_cells(const Study& study, const StudyText& text);

/// An evaluation's arguments with "{section.key}" replaced by that key's value in the job. Throws InputError where
/// there is no such key.
std::vector<std::string> fill_in(std::vector<std::string> arguments, const std::string& job);

/// One program that a cell runs. `name`.json in the cell's folder, written durably, says that it is done, and
/// `name`.failed.json that it failed.
struct CellStep {
    std::string name;
    std::vector<std::string> arguments;  ///< after the program
    bool evaluates = false;              ///< by dither-evaluate, whose output is the result
};

enum class CellState { fresh, interrupted, done, failed };

/// The files of one cell, DIR/cells/HASH: job.toml, run/ as dither-simulate leaves it, what each step said on standard
/// error (STEP.log), and its result or failure.
class CellFolder {
public:
    CellFolder(std::filesystem::path folder, const Study& study);

    const std::filesystem::path& path() const { return path_; }
    const std::vector<CellStep>& steps() const { return steps_; }
    std::filesystem::path result(const CellStep& step) const { return path_ / (step.name + ".json"); }
    std::filesystem::path failure(const CellStep& step) const { return path_ / (step.name + ".failed.json"); }
    std::filesystem::path log(const CellStep& step) const { return path_ / (step.name + ".log"); }
    std::filesystem::path output(const CellStep& step) const { return path_ / (step.name + ".out"); }
    std::filesystem::path run() const { return path_ / "run"; }

    CellState state() const;
    /// Why it failed, on one line: of a cell in that state.
    std::string failure_text() const;
    /// Removes the failures, so that the steps run again.
    void forget_failures() const;
    /// Of a cell that is done. Throws FormatError where a file cannot be read. Rounds only if asked for: they are many.
    CellRecord read(bool with_rounds) const;

private:
    std::filesystem::path path_;
    std::vector<CellStep> steps_;
    std::vector<std::string> evaluations_;  ///< their names, of the steps after the first one
};

/// The JSON object in `file`. Throws FormatError.
nlohmann::json read_json(const std::filesystem::path& file);

}  // namespace dither
