// Keys of rounds.jsonl over the rounds, averaged over the seeds of a method.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "examples/study/results.hpp"

namespace dither {

struct CurvePoint {
    double x = 0;
    double mean = 0;
    double deviation = 0;  ///< between the seeds; 0 of one
};

/// Reads the rounds of finished cells, each file once. Not thread-safe.
class Curves {
public:
    Curves(const Study& study, const StudyFolder& folder, const std::vector<Result>& results)
        : study_(study), folder_(folder), results_(results) {}

    /// `key` over `over`, whose sum so far counts if `cumulated`. Round by round, as many as the shortest run has;
    /// rounds in which a seed has no value are left out.
    std::vector<CurvePoint> mean_curve(std::size_t method, std::size_t point, const std::string& key,
                                       const std::string& over, bool cumulated);
    /// The rounds of the method's first finished seed at the grid's first point; empty if there is none.
    const std::vector<nlohmann::json>& first_run(std::size_t method);

private:
    using Rounds = std::vector<nlohmann::json>;
    std::vector<const Rounds*> runs_of(std::size_t method, std::size_t point);
    const Rounds& rounds_of(const std::string& cell);

    const Study& study_;
    const StudyFolder& folder_;
    const std::vector<Result>& results_;
    std::map<std::string, Rounds> read_;
};

}  // namespace dither
