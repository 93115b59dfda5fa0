// Normalisation of activations to mean 0 and variance 1, channel by channel, with a learnt scale and offset:
//
//     xhat = (x - mean) / sqrt(variance + 1e-5)        y = weight * xhat + bias
//
// x and y: [batch, height, width, channels] or [batch, features]; `input` is one item, batch extent 1.
#pragma once

#include "core/choice.hpp"
#include "core/layers/layer.hpp"

#include <memory>
#include <vector>

namespace dither {

/// What batch norm does about its statistics in a federation, where clients' batches come from unlike distributions
/// (Hsieh, Phanishayee, Mutlu, Gibbons, "The non-IID data quagmire of decentralized machine learning", ICML 2020).
enum class NormStatistics : std::uint8_t {
    shared,  ///< running ones are tensors of the model: learnt in training, averaged by the server, used in evaluation
    local,   ///< always those of the batch at hand, in evaluation too; nothing is kept or sent. What FedBN (Li, Jiang,
             ///< Zhang, Kamp, Dou, ICLR 2021) keeps at the client, without state at the client
    frozen,  ///< running ones are constants, in training too: those of the model that the job starts from
};

/// The names in the job file, in the order of the enumeration.
std::vector<Choice> norm_statistics_choices();

/// Statistics of each channel over the batch (Ioffe, Szegedy, "Batch normalization", ICML 2015). Tensors: weight (1 at
/// first), bias (0) and, unless statistics are local, the untrained mean (0) and variance (1), which a training pass
/// moves by 0.1 towards the batch's, variance unbiased, as PyTorch does. A variance below 0, which averaging of rounded
/// updates can make, counts as 0. A pass that records or holds branches uses the batch's statistics and learns nothing.
///
/// A batch of one value a channel has no variance: xhat is 0, so y is the bias, dx is 0, and the running statistics
/// stay. (PyTorch throws; a client's last batch may well be one sample.)
///
/// Keeps x for the backward pass, or, where the plan's backward bits are at most 8, codes of xhat of 8 bits: symmetric,
/// one scale a channel, nearest. ReLU is absorbed. Means and variances are fp32 sums within blocks of 64 rows and fp64
/// across (Chan, Golub, LeVeque, "Algorithms for computing the sample variance", 1983), the same bits on every
/// processor.
std::unique_ptr<Layer> make_batch_norm(const Shape& input, NormStatistics statistics = NormStatistics::shared);

/// Statistics of each sample over `groups` equal runs of adjacent channels (Wu, He, "Group normalization", ECCV 2018):
/// independent of the batch, so there is nothing to share. Tensors: weight (1), bias (0). Otherwise as batch norm.
/// Throws PreconditionError unless groups divides the channels.
std::unique_ptr<Layer> make_group_norm(const Shape& input, std::int64_t groups);

}  // namespace dither
