// The grid of updates, and of what a broadcast changes: how coarse the values that cross a link may be.
//
// By noise ("auto"): reverse water-filling over the layers. The mean of K updates has, from the clients' own
// disagreement, the variance D_i / K a coordinate in layer i, where D_i (K - 1) / K = E||u_k||^2 / n_i -
// ||mean u||^2 / n_i; stochastic rounding onto a grid of step Delta adds Delta^2 / (6 K). One noise level theta for all
// layers makes the total noise a stated share of the total disagreement: the fewest bits for that noise (Cover and
// Thomas, "Elements of information theory", theorem 10.3.3). A step is never more than kLargestStepShare times the
// layer's RMS update, so that no layer stands still: less noise than the update's own variance, where the theorem
// stops.
//
// By rate (the job's, or default_rate() where no noise is asked for): one step for all layers, that of the asked bits a
// coordinate, after R = log2(1 + c rms / step), whose c follows what the last payload took; what its norms took comes
// on top.
//
// By bits: each layer's range in codes of that width.
//
// A layer without products (a norm) has few values, in tensors whose scales differ by orders of magnitude: its step is
// made for the tensor that moved least, or of 16 bits where that is not known.
#pragma once

#include "core/config.hpp"
#include "core/model/schema.hpp"
#include "transport/makers.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace dither {

class StateReader;

/// Codes of a grid have 2 to 16 bits.
inline constexpr int kNarrowestCode = 2;
inline constexpr int kWidestCode = 16;

/// Bits a coordinate of a grid that nothing else decides: 0.25 + 2048 / parameters, at most 8. Where headers outweigh
/// codes, coarse ones save nothing.
double default_rate(std::size_t parameters);

/// A step is at most so many times the layer's RMS update.
inline constexpr double kLargestStepShare = 1;

/// What is known of one layer's values.
struct UpdateSpread {
    double range = -1;         ///< largest |value|; negative: not known
    double rms = -1;           ///< root mean square
    double disagreement = -1;  ///< variance of a coordinate between clients, >= 0; not known: as rms^2
    double least_rms = -1;     ///< of the tensor that moved least, if at all; 0: none moved

    double variance() const { return disagreement >= 0 ? disagreement : rms * rms; }
};

/// Of values that are all known.
std::vector<UpdateSpread> spread_of(const Schema& schema, std::span<const float> values);

/// The smallest RMS that is not 0; 0 if all are.
double least_moved(std::span<const double> rms);

/// RMS of each tensor of `values`, in the schema's order.
std::vector<double> tensor_rms(const Schema& schema, std::span<const float> values);

/// The steps of reverse water-filling, one a layer; 0 where nothing is known of the layer. `counts`: coordinates; a
/// layer of 0 takes no part.
std::vector<double> water_filling_steps(std::span<const UpdateSpread> layers, std::span<const std::size_t> counts,
                                        double noise_share);

/// K / (K - 1) (E||u_k||^2 / n - ||mean u||^2 / n) of a layer, from a client's RMS update and that of the mean of
/// `clients` = K updates, which lacks only (K - 1) / K of the clients' variance: at least a hundredth of rms^2, for
/// clients that agree; -1, not known, for less than two clients.
double disagreement_of(double rms, double mean_rms, std::uint32_t clients);

/// Bits that a stochastically rounded coordinate of bell-shaped values takes when coded well: log2(1 + 4.13 rms /
/// step), within a tenth of its entropy for a normal distribution.
double coded_bits(double rms, double step);

/// 2 range / (2^bits - 2): codes are symmetric, -(2^(b-1) - 1) .. 2^(b-1) - 1.
double grid_step(double range, int bits);
/// How many bits, 2 .. 16, codes from -range / step to range / step take.
int code_width(double range, double step);
/// Whether a step may travel: finite, and not so small that the layer is taken as not having moved.
bool usable(double step);
float to_step(double step);  ///< at most kLargestGridStep

/// Deterministic; not thread-safe. Borrows the schema. Without `needs_steps` all steps are 1 and widths 32.
class UpdateGrid {
public:
    UpdateGrid(const CodecOptions& options, const Schema& schema, const Makers& makers = {});

    bool needs_steps() const { return needs_steps_; }
    std::span<const float> steps() const { return steps_; }
    const std::vector<UpdateSpread>& spread() const { return spread_; }

    /// The steps before they are made coarser: by noise where noise_share > 0 and the job names no rate. A layer that
    /// did not move, or of which nothing is known, keeps its step. `bits`: of each layer where somebody else rules
    /// them, 0: nobody; empty: the codec's options.
    void aim(std::vector<UpdateSpread> spread, double noise_share, std::span<const int> bits = {});
    /// The steps: `coarseness`, at least 1, times those aimed at, but no further than 2 bits and not where a layer has
    /// no products. Returns whether a larger coarseness would still make any step larger.
    bool choose(double coarseness);
    /// Of the codes of layer `layer` on the chosen step; 32 without steps.
    int width(std::size_t layer) const;
    /// What a payload of values of this spread took on the chosen steps, on average, in bytes.
    void learn(std::span<const UpdateSpread> sent, double payload_bytes);
    /// Of a payload on the chosen grids, as the last one's bytes and spread have it; before the first, what codes of
    /// the nominal width take.
    double expected_bytes() const;

    /// restore reads what append_state wrote, and throws PreconditionError on what is no state.
    void append_state(std::vector<double>& state) const;
    void restore(StateReader& reader);

private:
    bool is_wide(std::size_t layer) const { return schema_.layers()[layer].macs == 0; }
    double wide_step(std::size_t layer) const;
    double rate_step(double noise_share) const;
    double common_rms(std::span<const UpdateSpread> layers) const;
    double modelled_bits(std::span<const UpdateSpread> layers) const;
    double bits_of_products(std::span<const UpdateSpread> sent) const;

    const Schema& schema_;
    CodecOptions options_;
    bool needs_steps_;
    std::vector<UpdateSpread> spread_;
    std::vector<int> bits_;     ///< of each layer's codes; 0: by rate or noise
    std::vector<float> bases_;  ///< before they are made coarser
    std::vector<float> steps_;
    double reach_;              ///< c of R = log2(1 + c rms / step)
    double measured_bits_ = 0;  ///< of the last payload; 0: not known
    double modelled_then_ = 0;  ///< what modelled_bits() was for it
};

}  // namespace dither
