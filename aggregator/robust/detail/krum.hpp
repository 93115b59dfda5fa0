// The ranking of updates by how near their neighbours are (Blanchard et al., NeurIPS 2017).
#pragma once

#include "aggregator/robust/gram.hpp"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace dither {

/// Borrows the inner products. score(i) = the sum of the squared distances of x_i to its m - faulty - 2 nearest
/// neighbours (at least one), all among the m updates that are left.
class KrumRanking {
public:
    KrumRanking(const Gram& gram, std::size_t faulty);

    /// Those that are left, the least score first, and of equal ones the lower index.
    std::vector<std::uint32_t> best_first() const;
    void remove(std::uint32_t update);

private:
    double score(std::uint32_t update) const;

    const Gram& gram_;
    std::size_t faulty_;
    Neighbours neighbours_;
    std::vector<bool> is_left_;
    std::size_t left_;
};

}  // namespace dither
