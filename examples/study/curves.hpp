// What a plot needs of the cells' files beyond metrics, averaged over the seeds of a method.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "examples/study/results.hpp"
#include "examples/study/statistics.hpp"

namespace dither {

struct CurvePoint {
    double x = 0;
    double mean = 0;
    double deviation = 0;  ///< between the seeds; 0 of one
};

/// x of each round beside y of the next: what was measured, and what came of it. A round without a value has the one
/// before.
std::vector<Point> pair_with_next(std::vector<std::optional<double>> x, std::vector<std::optional<double>> y);

/// Reads the files of finished cells, each one once. Not thread-safe.
class Curves {
public:
    Curves(const Study& study, const StudyFolder& folder, const std::vector<Result>& results)
        : study_(study), folder_(folder), results_(results) {}

    /// `key` of rounds.jsonl over the sum of `over`, so far if `cumulated`. Round by round, as many as the shortest run
    /// has; rounds in which a seed has no value are left out.
    std::vector<CurvePoint> mean_curve(std::size_t method, std::size_t point, const std::string& key,
                                       const std::vector<std::string>& over, bool cumulated);
    /// The rounds of the method's first finished seed; empty if there is none.
    const std::vector<nlohmann::json>& first_run(std::size_t method, std::size_t point);
    /// The mean of a list of numbers over the seeds; empty where one has none, or one of another length.
    std::vector<double> mean_list(std::size_t method, std::size_t point, const MetricPath& path);
    /// Throws FormatError where a finished run has nothing at `path`, as check_path does.
    void check(std::size_t method, std::size_t point, const MetricPath& path);
    /// By a layer's name, its keys `x` and `y` of every seed, as pair_with_next has them.
    std::map<std::string, std::vector<Point>> layer_points(std::size_t method, std::size_t point, const std::string& x,
                                                           const std::string& y);

private:
    std::vector<const CellRecord*> runs_of(std::size_t method, std::size_t point);
    const CellRecord& record_of(const std::string& cell);

    const Study& study_;
    const StudyFolder& folder_;
    const std::vector<Result>& results_;
    std::map<std::string, CellRecord> read_;
};

}  // namespace dither
