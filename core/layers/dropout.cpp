#include "core/layers/dropout.hpp"

#include "core/error.hpp"
#include "core/layers/detail/bit_mask.hpp"
#include "core/simd.hpp"

#include <array>
#include <cmath>

namespace dither {
namespace {

DITHER_CLONES void mark_kept(const std::uint32_t* words, std::uint32_t* kept, std::size_t count,
                             std::uint32_t threshold) {
    mask::pack(kept, count, [=](std::size_t i) { return words[i] >= threshold; });
}

class Dropout final : public Layer {
public:
    Dropout(const Shape& input, double rate, std::uint32_t lane)
        : shape_(input.with_batch(1)),
          threshold_(static_cast<std::uint32_t>(std::ldexp(rate, 32))),
          scale_(static_cast<float>(1 / (1 - rate))),
          lane_(lane) {}

    std::string_view kind() const override { return "dropout"; }
    Shape output_shape() const override { return shape_; }
    Affinity affinity() const override { return {.input = true}; }
    void lower(Lowering&) override {}  // nothing is left out in inference

    Tensor forward(Tensor x, const Pass& pass) override {
        require(x.shape().rank() > 0 && x.count() == x.shape()[0] * shape_.count(),
                "dropout: expected items of {} values, got {} in all", shape_.count(), x.count());
        kept_.release();
        if (!pass.training || pass.branches != Branches::free)
            return x;
        draw(x.values().size(), pass);
        Tensor y = in_place_of(x, pass);
        mask::apply(kept_.data(), x.data(), y.data(), x.values().size(), scale_);
        return y;
    }

    Tensor backward(Tensor dy, const Pass& pass, bool wanted) override {
        const Buffer<std::uint32_t> kept = std::move(kept_);
        if (!wanted || kept.empty())
            return wanted ? std::move(dy) : Tensor();
        Tensor dx = in_place_of(dy, pass);
        mask::apply(kept.data(), dy.data(), dx.data(), dy.values().size(), scale_);
        return dx;
    }

private:
    void draw(std::size_t count, const Pass& pass) {
        kept_ = Buffer<std::uint32_t>(mask::words_of(count), pass.arena);
        Stream stream(pass.key.with(Purpose::activation_noise, lane_));
        std::array<std::uint32_t, 512> words;
        for (std::size_t begin = 0; begin < count; begin += words.size()) {
            const std::size_t size = std::min(words.size(), count - begin);
            stream.fill_words(std::span(words).first(size));
            mark_kept(words.data(), kept_.data() + begin / mask::kWord, size, threshold_);
        }
    }

    Shape shape_;
    std::uint32_t threshold_;
    float scale_;
    std::uint32_t lane_;
    Buffer<std::uint32_t> kept_;  ///< a bit for each value; empty where nothing is left out
};

}  // namespace

std::unique_ptr<Layer> make_dropout(const Shape& input, double rate, std::uint32_t lane) {
    require(rate >= 0 && rate < 1, "dropout: expected a rate of 0 .. 1, without 1, got {}", rate);
    return std::make_unique<Dropout>(input, rate, lane);
}

}  // namespace dither
