#include "core/layers/residual.hpp"

#include "core/error.hpp"
#include "core/inference/lowering.hpp"
#include "core/layers/detail/bit_mask.hpp"
#include "core/simd.hpp"

namespace dither {
namespace {

DITHER_CLONES void add(const float* a, const float* b, float* sum, std::size_t count) {
#pragma GCC ivdep
    for (std::size_t i = 0; i < count; ++i)
        sum[i] = a[i] + b[i];
}

/// Block by block, so that the mask is made of sums that are still in the cache.
DITHER_CLONES void add_relu(const float* a, const float* b, float* y, std::uint32_t* alive, std::size_t count) {
    constexpr std::size_t kBlock = 1024;
    for (std::size_t begin = 0; begin < count; begin += kBlock) {
        const std::size_t size = count - begin < kBlock ? count - begin : kBlock;
        add(a + begin, b + begin, y + begin, size);
        mask::relu(y + begin, y + begin, alive + begin / mask::kWord, size);
    }
}

/// a + b, in place of whichever nobody else sees.
Tensor sum_of(Tensor a, Tensor b, const Pass& pass) {
    Tensor sum = b.unique() && !a.unique() ? in_place_of(b, pass) : in_place_of(a, pass);
    add(a.data(), b.data(), sum.data(), a.values().size());
    return sum;
}

class Residual final : public Layer {
public:
    Residual(const Shape& input, std::unique_ptr<Layer> body, std::unique_ptr<Layer> shortcut)
        : body_(std::move(body)), shortcut_(std::move(shortcut)), output_(body_->output_shape()) {
        const Shape other = shortcut_ == nullptr ? input.with_batch(1) : shortcut_->output_shape();
        require(output_ == other, "residual: the body gives {}, the shortcut {}", output_.str(), other.str());
    }

    std::string_view kind() const override { return "residual"; }
    Shape output_shape() const override { return output_; }

    Tensor forward(Tensor x, const Pass& pass) override {
        // The shortcut first, while nothing of the body is kept yet: the least memory at once.
        Tensor skip = shortcut_ == nullptr ? x.share() : shortcut_->forward(x.share(), pass);
        Tensor body = body_->forward(std::move(x), pass);
        if (!relu_)
            return sum_of(std::move(body), std::move(skip), pass);
        Tensor y = in_place_of(body, pass);
        rectify_sum(body, skip, y, pass);
        return y;
    }

    Tensor backward(Tensor dy, const Pass& pass, bool wanted) override {
        Tensor g = relu_ ? in_place_of(dy, pass) : dy.share();
        if (relu_) {
            const std::uint32_t* alive = pass.branches == Branches::held ? held_.data() : alive_.data();
            mask::apply(alive, dy.data(), g.data(), g.values().size());
            alive_.release();
        }
        dy.release();
        Tensor body = body_->backward(g.share(), pass, wanted);
        Tensor skip = shortcut_ == nullptr ? std::move(g) : shortcut_->backward(std::move(g), pass, wanted);
        return wanted ? sum_of(std::move(body), std::move(skip), pass) : Tensor();
    }

    void visit(const std::function<void(Layer&)>& visitor) override {
        body_->visit(visitor);
        if (shortcut_ != nullptr)
            shortcut_->visit(visitor);
    }

    /// The shortcut first, as in forward(): the sum then follows the body's last product.
    void lower(Lowering& out) override {
        const std::uint32_t x = out.value();
        if (shortcut_ != nullptr)
            shortcut_->lower(out);
        const std::uint32_t skip = out.value();
        out.resume(x);
        body_->lower(out);
        out.append(AddOperation{.other = skip});
        if (relu_)
            out.append_relu();
    }

    bool absorb(Tail tail) override {
        const bool taken = tail == Tail::relu && !relu_;
        relu_ = relu_ || taken;
        return taken;
    }

private:
    void rectify_sum(const Tensor& body, const Tensor& skip, Tensor& y, const Pass& pass) {
        const std::size_t count = y.values().size();
        if (pass.branches == Branches::held) {
            add(body.data(), skip.data(), y.data(), count);
            mask::apply(held_.data(), y.data(), y.data(), count);
            return;
        }
        alive_ = Buffer<std::uint32_t>(mask::words_of(count), pass.arena);
        add_relu(body.data(), skip.data(), y.data(), alive_.data(), count);
        if (pass.branches == Branches::record)
            held_.assign(alive_.values().begin(), alive_.values().end());
        if (!pass.keep)
            alive_.release();
    }

    std::unique_ptr<Layer> body_;
    std::unique_ptr<Layer> shortcut_;
    Shape output_;
    bool relu_ = false;
    Buffer<std::uint32_t> alive_;      ///< with ReLU: a bit for each value
    std::vector<std::uint32_t> held_;  ///< of the last recorded pass
};

}  // namespace

std::unique_ptr<Layer> make_residual(const Shape& input, std::unique_ptr<Layer> body, std::unique_ptr<Layer> shortcut) {
    return std::make_unique<Residual>(input, std::move(body), std::move(shortcut));
}

}  // namespace dither
