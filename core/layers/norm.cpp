#include "core/layers/norm.hpp"

#include "core/error.hpp"
#include "core/inference/lowering.hpp"
#include "core/layers/detail/bit_mask.hpp"
#include "core/layers/detail/moments.hpp"
#include "core/layers/detail/norm_kernels.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>

namespace dither {
namespace {

constexpr double kEpsilon = 1e-5;
constexpr double kMomentum = 0.1;
constexpr int kCodeBits = 8;
constexpr float kCodeLimit = 127;

constexpr std::array kStatistics{
    ChoiceRow<NormStatistics>{"shared", "running ones, learnt in training and averaged with the model",
                              NormStatistics::shared},
    ChoiceRow<NormStatistics>{"local", "always those of the batch at hand, in evaluation too; never sent",
                              NormStatistics::local},
    ChoiceRow<NormStatistics>{"frozen", "running ones, constant in training too", NormStatistics::frozen},
};

/// Batch norm is one slice, all rows of the batch, with a group for each channel; group norm has a slice for each
/// sample.
class Normalization final : public Layer {
public:
    Normalization(std::string_view kind, const Shape& input, std::optional<std::int64_t> groups,
                  NormStatistics statistics)
        : kind_(kind),
          shape_(input.with_batch(1)),
          channels_(input[input.rank() - 1]),
          per_sample_(groups.has_value()),
          group_size_(channels_ / groups.value_or(channels_)),
          statistics_(statistics),
          moments_(static_cast<std::size_t>(channels_)),
          stripes_(static_cast<std::size_t>(kStripes * norm::kStripeRows * channels_)),
          channel_values_(static_cast<std::size_t>(kChannelValues * channels_)),
          sums_(static_cast<std::size_t>(channels_)),
          products_(static_cast<std::size_t>(channels_)) {}

    std::string_view kind() const override { return kind_; }
    Shape output_shape() const override { return shape_; }
    std::vector<ParameterSpec> parameters() const override;
    double kept_inputs() const override { return static_cast<double>(shape_.count()); }
    /// Of x where the statistics are not x's own.
    Affinity affinity() const override {
        return {.input = has_running_statistics() && statistics_ == NormStatistics::frozen, .parameters = true};
    }
    void attach(std::size_t index, std::span<float> values, std::span<float> gradients) override;
    Tensor forward(Tensor x, const Pass& pass) override;
    Tensor backward(Tensor dy, const Pass& pass, bool wanted) override;
    void lower(Lowering& out) override;
    bool absorb(Tail tail) override {
        const bool taken = tail == Tail::relu && !relu_;
        relu_ = relu_ || taken;
        return taken;
    }

private:
    static constexpr std::int64_t kStripes = 7;
    static constexpr std::int64_t kChannelValues = 4;

    /// The rows that share statistics.
    struct Slice {
        std::int64_t index;
        std::int64_t rows;
        std::int64_t offset;  ///< of its first value in the tensor
    };

    bool has_running_statistics() const { return !per_sample_ && statistics_ != NormStatistics::local; }
    bool uses_batch(const Pass& pass) const;
    int backward_bits(const Pass& pass) const;
    std::int64_t slice_count(std::int64_t batch) const { return per_sample_ ? batch : 1; }
    Slice slice(std::int64_t index, std::int64_t batch) const;
    std::size_t mask_words(const Slice& s) const;

    template <typename Visit>
    void for_each_block(const Slice& s, Visit visit) const;

    void begin(const Tensor& x, const Pass& pass);
    void find_statistics(const Slice& s, const float* x, bool learn);
    void learn_running();
    void find_code_scales(const Slice& s);
    void normalize(const Slice& s, const float* x, float* y, const Pass& pass);
    template <typename Kept>
    void differentiate(const Slice& s, const Kept* kept, const float* dy, float* dx, const std::uint32_t* alive);
    void fill_slopes(const Slice& s);

    /// The slice's constants, one a channel.
    std::span<float> means(const Slice& s) { return constants(s, 0); }
    std::span<float> deviations(const Slice& s) { return constants(s, 1); }  ///< 1 / sqrt(variance + epsilon)
    std::span<float> code_scales(const Slice& s) { return constants(s, 2); }
    std::span<float> constants(const Slice& s, std::int64_t which) {
        return constants_.values().subspan(static_cast<std::size_t>((3 * s.index + which) * channels_), channels());
    }
    /// 1 / sqrt(variance + epsilon)
    static float deviation_of(double variance) {
        return static_cast<float>(1 / std::sqrt((variance < 0 ? 0.0 : variance) + kEpsilon));
    }
    std::span<float> parameter(std::size_t which) { return values_.subspan(which * channels(), channels()); }
    std::size_t channels() const { return static_cast<std::size_t>(channels_); }
    float* stripe(std::int64_t which) { return stripes_.data() + which * norm::kStripeRows * channels_; }
    std::span<float> channel_values(std::size_t which) {
        return std::span(channel_values_).subspan(which * channels(), channels());
    }

    /// The extremes of a slice's channels.
    std::span<float> low() { return channel_values(2); }
    std::span<float> high() { return channel_values(3); }

    std::string_view kind_;
    Shape shape_;
    std::int64_t channels_;
    bool per_sample_;
    std::int64_t group_size_;  ///< channels that share statistics
    NormStatistics statistics_;
    bool relu_ = false;
    std::size_t index_ = 0;
    std::span<float> values_;
    std::span<float> gradients_;

    norm::Moments moments_;
    AlignedFloats stripes_;
    AlignedFloats channel_values_;
    std::vector<double> sums_;      ///< of a slice's gradients, by channel
    std::vector<double> products_;  ///< of a slice's gradients with xhat

    // What the backward pass needs.
    bool of_batch_ = false;  ///< the statistics depend on x
    bool coded_ = false;     ///< codes_ instead of x_
    Tensor x_;
    Buffer<std::int8_t> codes_;
    Buffer<float> constants_;
    Buffer<std::uint32_t> alive_;      ///< with ReLU: a bit for each value, whole words for each block
    std::vector<std::uint32_t> held_;  ///< alive_ of the last recorded pass
};

std::vector<ParameterSpec> Normalization::parameters() const {
    std::vector<ParameterSpec> specs{{.name = "weight", .shape = {channels_}, .constant = 1},
                                     {.name = "bias", .shape = {channels_}}};
    if (has_running_statistics()) {
        specs.push_back({.name = "mean", .shape = {channels_}, .trained = false});
        specs.push_back({.name = "variance", .shape = {channels_}, .constant = 1, .trained = false});
    }
    return specs;
}

void Normalization::attach(std::size_t index, std::span<float> values, std::span<float> gradients) {
    const std::size_t count = (has_running_statistics() ? 4 : 2) * channels();
    require(values.size() == count && gradients.size() == count, "{}: expected {} parameters, got {} and {} gradients",
            kind_, count, values.size(), gradients.size());
    index_ = index;
    values_ = values;
    gradients_ = gradients;
}

bool Normalization::uses_batch(const Pass& pass) const {
    const bool as_in_training = pass.training || pass.branches != Branches::free;
    return !has_running_statistics() || (statistics_ == NormStatistics::shared && as_in_training);
}

int Normalization::backward_bits(const Pass& pass) const {
    if (pass.plan == nullptr)
        return kFullBits;
    require(index_ < pass.plan->layers.size(), "the plan has {} layers, but layer {} asks it", pass.plan->layers.size(),
            index_);
    return pass.plan->layers[index_].backward;
}

Normalization::Slice Normalization::slice(std::int64_t index, std::int64_t batch) const {
    const std::int64_t rows = batch * shape_.count() / channels_ / slice_count(batch);
    return {.index = index, .rows = rows, .offset = index * rows * channels_};
}

std::size_t Normalization::mask_words(const Slice& s) const {
    const std::int64_t blocks = (s.rows + norm::kBlockRows - 1) / norm::kBlockRows;
    return static_cast<std::size_t>(blocks) * mask::words_of(static_cast<std::size_t>(norm::kBlockRows * channels_));
}

/// Calls visit(block, offset of its first value, offset of its first word in a mask), offsets within the slice.
template <typename Visit>
void Normalization::for_each_block(const Slice& s, Visit visit) const {
    const std::size_t words = mask::words_of(static_cast<std::size_t>(norm::kBlockRows * channels_));
    std::size_t word = 0;
    for (std::int64_t row = 0; row < s.rows; row += norm::kBlockRows, word += words)
        visit(norm::Block{std::min(norm::kBlockRows, s.rows - row), channels_}, row * channels_, word);
}

void Normalization::begin(const Tensor& x, const Pass& pass) {
    const std::int64_t batch = x.shape()[0];
    require(x.shape().rank() > 0 && x.count() == batch * shape_.count(),
            "{}: expected items of {} values, got {} in all", kind_, shape_.count(), x.count());
    x_.release();
    codes_.release();
    of_batch_ = uses_batch(pass);
    coded_ = pass.keep && backward_bits(pass) <= kCodeBits;
    constants_ = Buffer<float>(static_cast<std::size_t>(3 * slice_count(batch) * channels_), pass.arena);
    if (coded_)
        codes_ = Buffer<std::int8_t>(x.values().size(), pass.arena);
    else if (pass.keep)
        x_ = x.share();
    const std::size_t words = static_cast<std::size_t>(slice_count(batch)) * mask_words(slice(0, batch));
    if (relu_ && pass.branches == Branches::record)
        held_.resize(words);
    if (relu_ && pass.branches != Branches::held)
        alive_ = Buffer<std::uint32_t>(words, pass.arena);
}

Tensor Normalization::forward(Tensor x, const Pass& pass) {
    begin(x, pass);
    const std::int64_t batch = x.shape()[0];
    Tensor y = in_place_of(x, pass);
    const bool learn = pass.training && statistics_ == NormStatistics::shared && has_running_statistics();
    for (std::int64_t i = 0; i < slice_count(batch); ++i) {
        const Slice s = slice(i, batch);
        find_statistics(s, x.data() + s.offset, learn);
        if (coded_)
            find_code_scales(s);
        normalize(s, x.data() + s.offset, y.data() + s.offset, pass);
    }
    if (relu_ && pass.branches == Branches::record)
        std::ranges::copy(alive_.values(), held_.begin());
    if (!pass.keep) {
        constants_.release();
        alive_.release();
    }
    return y;
}

void Normalization::find_statistics(const Slice& s, const float* x, bool learn) {
    moments_.clear();
    std::ranges::fill(low(), std::numeric_limits<float>::max());
    std::ranges::fill(high(), std::numeric_limits<float>::lowest());
    for_each_block(s, [&](const norm::Block& block, std::int64_t offset, std::size_t) {
        if (of_batch_) {
            norm::moments(block, x + offset, stripe(0), channel_values(0).data(), channel_values(1).data());
            moments_.add(block.rows, channel_values(0).data(), channel_values(1).data());
        }
        if (coded_)
            norm::widen(block, x + offset, stripe(0), low().data(), high().data());
    });
    moments_.join(static_cast<std::size_t>(group_size_));
    for (std::size_t c = 0; c < channels(); ++c) {
        const double mean = of_batch_ ? moments_.mean(c) : static_cast<double>(parameter(2)[c]);
        const double variance = of_batch_ ? moments_.variance(c) : static_cast<double>(parameter(3)[c]);
        means(s)[c] = static_cast<float>(mean);
        deviations(s)[c] = deviation_of(variance);
    }
    if (learn)
        learn_running();
}

void Normalization::learn_running() {
    if (moments_.rows() < 2)
        return;
    for (std::size_t c = 0; c < channels(); ++c) {
        float& mean = parameter(2)[c];
        float& variance = parameter(3)[c];
        const double unbiased = moments_.square(c) / static_cast<double>(moments_.rows() - 1);
        mean = static_cast<float>(mean + kMomentum * (moments_.mean(c) - mean));
        variance = static_cast<float>(variance + kMomentum * (unbiased - variance));
    }
}

/// The largest |xhat| of each channel becomes the largest code.
void Normalization::find_code_scales(const Slice& s) {
    for (std::size_t c = 0; c < channels(); ++c) {
        const float reach = std::max(means(s)[c] - low()[c], high()[c] - means(s)[c]);
        code_scales(s)[c] = reach * deviations(s)[c] / kCodeLimit;
    }
}

void Normalization::normalize(const Slice& s, const float* x, float* y, const Pass& pass) {
    const std::span<float> scale = channel_values(0);
    const std::span<float> code_scale = channel_values(1);
    for (std::size_t c = 0; c < channels(); ++c) {
        scale[c] = deviations(s)[c] * parameter(0)[c];
        if (coded_)
            code_scale[c] = code_scales(s)[c] > 0 ? deviations(s)[c] / code_scales(s)[c] : 0;
    }
    norm::spread(means(s), stripe(0));
    norm::spread(scale, stripe(1));
    norm::spread(parameter(1), stripe(2));
    norm::spread(code_scale, stripe(3));
    const std::size_t first_word = static_cast<std::size_t>(s.index) * mask_words(s);
    for_each_block(s, [&](const norm::Block& block, std::int64_t offset, std::size_t word) {
        if (coded_)
            norm::encode(block, x + offset, stripe(0), stripe(3), codes_.data() + s.offset + offset);
        float* out = y + offset;
        norm::normalize(block, x + offset, stripe(0), stripe(1), stripe(2), out);
        const auto count = static_cast<std::size_t>(block.count());
        if (relu_ && pass.branches == Branches::held)
            mask::apply(held_.data() + first_word + word, out, out, count);
        else if (relu_)
            mask::relu(out, out, alive_.data() + first_word + word, count);
    });
}

/// As normalize() does in evaluation.
void Normalization::lower(Lowering& out) {
    if (!has_running_statistics())
        refuse_conversion(out.name(index_), per_sample_
                                                ? "group norm finds its statistics in each sample"
                                                : "model.norm_statistics = \"local\" takes them from each batch");
    AffineOperation affine{.name = out.name(index_), .mean = {}, .scale = {}, .shift = {}};
    affine.mean.assign(parameter(2).begin(), parameter(2).end());
    affine.shift.assign(parameter(1).begin(), parameter(1).end());
    for (std::size_t c = 0; c < channels(); ++c)
        affine.scale.push_back(deviation_of(parameter(3)[c]) * parameter(0)[c]);
    out.append(std::move(affine));
    if (relu_)
        out.append_relu();
}

Tensor Normalization::backward(Tensor dy, const Pass& pass, bool wanted) {
    const std::int64_t batch = dy.shape()[0];
    const Tensor x = std::move(x_);
    const Buffer<std::int8_t> codes = std::move(codes_);
    const Buffer<std::uint32_t> own = std::move(alive_);
    const std::uint32_t* alive = pass.branches == Branches::held ? held_.data() : own.data();
    Tensor dx = wanted || relu_ ? in_place_of(dy, pass) : Tensor();
    std::ranges::fill(gradients_, 0.0F);
    for (std::int64_t i = 0; i < slice_count(batch); ++i) {
        const Slice s = slice(i, batch);
        const float* g = dy.data() + s.offset;
        float* out = dx.empty() ? nullptr : dx.data() + s.offset;
        const std::uint32_t* words = relu_ ? alive + static_cast<std::size_t>(i) * mask_words(s) : nullptr;
        if (coded_)
            differentiate(s, codes.data() + s.offset, g, out, words);
        else
            differentiate(s, x.data() + s.offset, g, out, words);
    }
    constants_.release();
    return wanted ? std::move(dx) : Tensor();
}

/// dx = slope * g - (shift + xhat * tilt). `dx` may be null, and may be `dy`; with ReLU it is not null and holds the
/// gradient behind ReLU in between.
template <typename Kept>
void Normalization::differentiate(const Slice& s, const Kept* kept, const float* dy, float* dx,
                                  const std::uint32_t* alive) {
    norm::spread(means(s), stripe(0));
    norm::spread(coded_ ? code_scales(s) : deviations(s), stripe(1));
    if (coded_)
        std::fill_n(stripe(0), norm::kStripeRows * channels_, 0.0F);
    const norm::Normalized<Kept> all{kept, stripe(0), stripe(1)};
    std::ranges::fill(sums_, 0.0);
    std::ranges::fill(products_, 0.0);
    const float* g = alive != nullptr ? dx : dy;
    for_each_block(s, [&](const norm::Block& block, std::int64_t offset, std::size_t word) {
        if (alive != nullptr)
            mask::apply(alive + word, dy + offset, dx + offset, static_cast<std::size_t>(block.count()));
        const norm::Normalized<Kept> x{all.kept + offset, all.mean, all.scale};
        norm::gradient_sums(block, g + offset, x, stripe(5), channel_values(0).data(), channel_values(1).data());
        for (std::size_t c = 0; c < channels(); ++c) {
            sums_[c] += channel_values(0)[c];
            products_[c] += channel_values(1)[c];
        }
    });
    for (std::size_t c = 0; c < channels(); ++c) {
        gradients_[c] += static_cast<float>(products_[c]);
        gradients_[channels() + c] += static_cast<float>(sums_[c]);
    }
    if (dx == nullptr)
        return;
    fill_slopes(s);
    for_each_block(s, [&](const norm::Block& block, std::int64_t offset, std::size_t) {
        const norm::Normalized<Kept> x{all.kept + offset, all.mean, all.scale};
        norm::input_gradient(block, g + offset, x, stripe(2), stripe(3), stripe(4), dx + offset);
    });
}

/// slope = weight / deviation; over the n values that share statistics,
/// shift = 1 / (n deviation) sum weight g, tilt = 1 / (n deviation) sum weight g xhat.
void Normalization::fill_slopes(const Slice& s) {
    const std::span<float> slope = channel_values(0);
    const std::span<float> shift = channel_values(1);
    const std::span<float> tilt = channel_values(2);
    const std::int64_t sharing = s.rows * group_size_;
    const bool alone = of_batch_ && sharing == 1;  // xhat is 0 whatever x is
    const double share = alone ? 0.0 : 1.0 / static_cast<double>(sharing);
    const auto size = static_cast<std::size_t>(group_size_);
    for (std::size_t first = 0; first < channels(); first += size) {
        double sum = 0;
        double product = 0;
        for (std::size_t c = first; of_batch_ && c < first + size; ++c) {
            sum += sums_[c] * static_cast<double>(parameter(0)[c]);
            product += products_[c] * static_cast<double>(parameter(0)[c]);
        }
        for (std::size_t c = first; c < first + size; ++c) {
            slope[c] = alone ? 0 : parameter(0)[c] * deviations(s)[c];
            shift[c] = static_cast<float>(sum * share) * deviations(s)[c];
            tilt[c] = static_cast<float>(product * share) * deviations(s)[c];
        }
    }
    norm::spread(slope, stripe(2));
    norm::spread(shift, stripe(3));
    norm::spread(tilt, stripe(4));
}

void check_input(std::string_view kind, const Shape& input) {
    require((input.rank() == 2 || input.rank() == 4) && input.count() > 0,
            "{} needs images [1, height, width, channels] or features [1, features], not {}", kind, input.str());
}

}  // namespace

std::vector<Choice> norm_statistics_choices() {
    return choices_of(kStatistics);
}

std::unique_ptr<Layer> make_batch_norm(const Shape& input, NormStatistics statistics) {
    check_input("batch_norm", input);
    return std::make_unique<Normalization>("batch_norm", input, std::nullopt, statistics);
}

std::unique_ptr<Layer> make_group_norm(const Shape& input, std::int64_t groups) {
    check_input("group_norm", input);
    const std::int64_t channels = input[input.rank() - 1];
    require(groups > 0 && channels % groups == 0, "group_norm: expected groups that divide {} channels, got {}",
            channels, groups);
    return std::make_unique<Normalization>("group_norm", input, groups, NormStatistics::local);
}

}  // namespace dither
