#include "core/inference/integer_model.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace dither {
namespace {

constexpr std::int64_t kMaxExtent = 1 << 20;    // of an image or a kernel
constexpr std::int64_t kMaxValues = 1LL << 26;  // of all steps of one sample together, with their padding
constexpr int kMaxOutputs = 1 << 20;
constexpr std::int64_t kMaxWindow = 15;    // of a maximum pool, as in training
constexpr std::int64_t kMeanWindow = 255;  // of a mean that is not of the whole image

template <typename... Args>
void expect(bool holds, fmt::format_string<Args...> message, Args&&... args) {
    if (!holds)
        throw FormatError(fmt::format(message, std::forward<Args>(args)...));
}

bool all_finite(std::span<const float> values) {
    return std::ranges::all_of(values, [](float value) { return std::isfinite(value); });
}

/// Positive and not so small that its bits are few.
bool is_scale(float value) {
    return std::isnormal(value) && value > 0;
}

/// Names are printed.
void check_text(const std::string& text) {
    expect(std::ranges::none_of(text, [](unsigned char c) { return c < 0x20 || c == 0x7f; }),
           "a name with control characters");
}

bool is_extent(std::int64_t value) {
    return value > 0 && value <= kMaxExtent;
}

/// What a value of this shape takes with `padding` on every side; kMaxValues + 1 for anything larger.
std::int64_t padded_count(const Shape& shape, std::int64_t padding) {
    std::int64_t count = 1;
    for (int axis = 0; axis < shape.rank(); ++axis) {
        const bool padded = shape.rank() == 4 && (axis == 1 || axis == 2);
        count *= shape[axis] + (padded ? 2 * padding : 0);
        if (count > kMaxValues)
            return kMaxValues + 1;
    }
    return count;
}

/// Places of an image that the plan of a convolution visits: all, for each of its stride * stride classes
/// (core/compute/integer_convolution.cpp). kMaxValues + 1 for anything larger.
std::int64_t planned_places(const ConvGeometry& g) {
    const std::int64_t classes = g.stride * g.stride;
    const std::int64_t places = g.in_height * g.in_width;
    return classes > kMaxValues / places ? kMaxValues + 1 : classes * places;
}

std::int64_t planned_places(const Operation& operation) {
    const auto* product = std::get_if<ProductOperation>(&operation);
    return product == nullptr || product->linear ? 0 : planned_places(product->geometry);
}

/// Finds the shape of what a step makes, and whether the step may be run.
struct Checker {
    std::span<const Shape> shapes;  ///< of the values so far
    std::uint32_t input;

    const Shape& x() const { return shapes[input]; }

    Shape operator()(const ProductOperation& p) const {
        check_text(p.name);
        check_geometry(p);
        check_grid(p.grid);
        const ConvGeometry& g = p.geometry;
        const auto channels = static_cast<std::size_t>(g.out_channels);
        expect(p.bits >= 2 && p.bits <= 8, "weights of {} bits, expected 2 .. 8", p.bits);
        expect(p.scales.size() == channels && std::ranges::all_of(p.scales, is_scale),
               "expected {} positive scales of weights", channels);
        expect(p.bias.empty() || (p.bias.size() == channels && all_finite(p.bias)), "expected {} finite biases or none",
               channels);
        check_codes(p);
        return p.linear ? Shape{1, g.out_channels} : Shape{1, g.out_height(), g.out_width(), g.out_channels};
    }
    Shape operator()(const AffineOperation& a) const {
        check_text(a.name);
        const auto channels = static_cast<std::size_t>(x()[x().rank() - 1]);
        for (const std::vector<float>* constants : {&a.mean, &a.scale, &a.shift})
            expect(constants->size() == channels && all_finite(*constants), "expected {} finite constants", channels);
        return x();
    }
    Shape operator()(const ClampOperation& c) const {
        expect(c.low <= c.high, "a clamp between {} and {}", c.low, c.high);
        return x();
    }
    Shape operator()(const TanhOperation&) const { return x(); }
    Shape operator()(const PoolOperation& p) const {
        expect(x().rank() == 4, "a pool over {}, expected an image", x().str());
        expect(is_extent(p.kernel_height) && is_extent(p.kernel_width) && is_extent(p.stride) && p.padding >= 0 &&
                   p.padding <= std::min(p.kernel_height, p.kernel_width) / 2,
               "a pool of {} x {} with stride {} and padding {}", p.kernel_height, p.kernel_width, p.stride, p.padding);
        const std::int64_t longest = p.mean ? kMeanWindow : kMaxWindow;
        expect(p.flat || std::max(p.kernel_height, p.kernel_width) <= longest, "a pool of {} x {}, expected at most {}",
               p.kernel_height, p.kernel_width, longest);
        expect(p.kernel_height <= x()[1] + 2 * p.padding && p.kernel_width <= x()[2] + 2 * p.padding,
               "a pool of {} x {} does not fit {}", p.kernel_height, p.kernel_width, x().str());
        const Shape out{1, (x()[1] + 2 * p.padding - p.kernel_height) / p.stride + 1,
                        (x()[2] + 2 * p.padding - p.kernel_width) / p.stride + 1, x()[3]};
        expect(!p.flat || (out[1] == 1 && out[2] == 1), "a pool to {} is not flat", out.str());
        return p.flat ? Shape{1, x()[3]} : out;
    }
    Shape operator()(const AddOperation& a) const {
        expect(a.other < shapes.size(), "adds value {} of {}", a.other, shapes.size());
        expect(shapes[a.other] == x(), "adds {} to {}", shapes[a.other].str(), x().str());
        return x();
    }

    void check_geometry(const ProductOperation& p) const {
        const ConvGeometry& g = p.geometry;
        const bool extents = is_extent(g.in_height) && is_extent(g.in_width) && is_extent(g.in_channels) &&
                             is_extent(g.out_channels) && is_extent(g.kernel) && is_extent(g.stride) &&
                             is_extent(g.groups) && g.padding >= 0 && g.padding < g.kernel;
        expect(extents && g.in_channels % g.groups == 0 && g.out_channels % g.groups == 0 &&
                   g.kernel <= std::min(g.in_height, g.in_width) + 2 * g.padding,
               "a product of {} x {} x {} with kernel {}, stride {}, padding {}, groups {} to {} channels", g.in_height,
               g.in_width, g.in_channels, g.kernel, g.stride, g.padding, g.groups, g.out_channels);
        const Shape taken{1, g.in_height, g.in_width, g.in_channels};
        expect(p.linear ? g.in_height == 1 && g.in_width == 1 && g.kernel == 1 && g.padding == 0 && g.groups == 1 &&
                              g.in_channels == x().count()
                        : taken == x(),
               "takes {}, but its input is {}", taken.str(), x().str());
        expect(padded_count(taken, g.padding) <= kMaxValues, "takes too large an image");
        expect(!p.linear || g.stride == 1, "a linear layer with stride {}", g.stride);
        expect(p.linear ? fits_integers(g.in_channels, g.out_channels) : fits_integers(g),
               "its sums may leave 32 bits");
    }
    static void check_grid(const ActivationGrid& grid) {
        expect(grid.bits >= 2 && grid.bits <= 8, "activations of {} bits, expected 2 .. 8", grid.bits);
        expect(is_scale(grid.scale), "an activations' scale of {}", grid.scale);
        expect(
            grid.lowest >= 0 && grid.lowest <= 1 && grid.zero_point >= grid.lowest && grid.zero_point <= grid.highest(),
            "a zero point of {} among the codes {} .. {}", grid.zero_point, grid.lowest, grid.highest());
    }
    static void check_codes(const ProductOperation& p) {
        const auto bits = static_cast<std::size_t>(p.bits);
        const std::size_t bytes = (p.weight_count() * bits + 7) / 8;
        expect(p.weights.size() == bytes, "{} bytes of weights, expected {}", p.weights.size(), bytes);
        std::vector<std::int8_t> codes(p.weight_count());
        unpack_codes(p.weights, p.bits, codes);
        expect(std::ranges::find(codes, -(1 << (p.bits - 1))) == codes.end(), "a weight's code below -{}",
               (1 << (p.bits - 1)) - 1);
        expect(pack_codes(codes, p.bits) == p.weights, "bits behind the last weight");
    }
};

std::string_view kind_of(const Operation& operation) {
    constexpr std::string_view kKinds[] = {"product", "affine", "clamp", "tanh", "pool", "add"};
    return kKinds[operation.index()];
}

const ProductOperation* product_of(const Step& step) {
    return std::get_if<ProductOperation>(&step.operation);
}

}  // namespace

std::size_t ProductOperation::weight_count() const {
    return static_cast<std::size_t>(geometry.fan_in() * geometry.out_channels);
}

std::size_t IntegerModel::weight_count() const {
    std::size_t count = 0;
    for (const Step& step : steps)
        count += product_of(step) == nullptr ? 0 : product_of(step)->weight_count();
    return count;
}

std::size_t IntegerModel::weight_bits() const {
    std::size_t bits = 0;
    for (const Step& step : steps)
        if (const ProductOperation* product = product_of(step))
            bits += product->weight_count() * static_cast<std::size_t>(product->bits);
    return bits;
}

double IntegerModel::macs() const {
    double macs = 0;
    for (const Step& step : steps)
        if (const ProductOperation* product = product_of(step)) {
            const ConvGeometry& g = product->geometry;
            macs += static_cast<double>(g.out_height() * g.out_width()) * static_cast<double>(product->weight_count());
        }
    return macs;
}

std::vector<Shape> check(const IntegerModel& model) {
    check_text(model.name);
    check_text(model.quantization);
    const Shape& sample = model.sample;
    expect((sample.rank() == 2 || sample.rank() == 4) && sample[0] == 1, "a sample of shape {}", sample.str());
    for (int axis = 1; axis < sample.rank(); ++axis)
        expect(is_extent(sample[axis]), "a sample of shape {}", sample.str());
    const std::size_t channels = model.scaling.size();
    expect(channels <= 1 || channels == static_cast<std::size_t>(sample[sample.rank() - 1]),
           "{} scalings of the input for {} channels", channels, sample[sample.rank() - 1]);
    for (const ChannelScaling& scaling : model.scaling)
        expect(std::isfinite(scaling.mean) && is_scale(scaling.deviation), "a scaling of {} and {}", scaling.mean,
               scaling.deviation);
    expect(!model.steps.empty() && model.steps.size() <= kMaxSteps, "{} steps, expected 1 .. {}", model.steps.size(),
           kMaxSteps);
    std::vector<Shape> shapes{sample};
    std::int64_t values = padded_count(sample, 0);
    std::int64_t places = 0;
    for (std::size_t i = 0; i < model.steps.size(); ++i) {
        const Step& step = model.steps[i];
        try {
            expect(step.input < shapes.size(), "takes value {} of {}", step.input, shapes.size());
            shapes.push_back(std::visit(Checker{shapes, step.input}, step.operation));
            values += padded_count(shapes.back(), 0);
            expect(values <= kMaxValues, "more than {} values for a sample", kMaxValues);
            places += planned_places(step.operation);
            expect(places <= kMaxValues, "strides and images of more than {} places together", kMaxValues);
        } catch (const FormatError& error) {
            throw FormatError(fmt::format("integer model, step {} ({}): {}", i, kind_of(step.operation), error.what()));
        }
    }
    expect(model.outputs > 0 && model.outputs <= kMaxOutputs && shapes.back() == Shape{1, model.outputs},
           "the last step gives {}, expected {} outputs", shapes.back().str(), model.outputs);
    return shapes;
}

std::vector<std::uint8_t> pack_codes(std::span<const std::int8_t> codes, int bits) {
    require(bits >= 1 && bits <= 8, "codes of {} bits in a byte", bits);
    const auto width = static_cast<unsigned>(bits);
    std::vector<std::uint8_t> packed((codes.size() * width + 7) / 8);
    std::size_t at = 0;
    for (const std::int8_t code : codes) {
        const unsigned value = static_cast<unsigned>(code) & ((1U << width) - 1);
        const unsigned shifted = value << (at % 8);
        packed[at / 8] = static_cast<std::uint8_t>(packed[at / 8] | (shifted & 0xffU));
        if (shifted > 0xffU)
            packed[at / 8 + 1] = static_cast<std::uint8_t>(shifted >> 8);
        at += width;
    }
    return packed;
}

void unpack_codes(std::span<const std::uint8_t> packed, int bits, std::span<std::int8_t> codes) {
    require(bits >= 1 && bits <= 8, "codes of {} bits in a byte", bits);
    const auto width = static_cast<unsigned>(bits);
    require(packed.size() == (codes.size() * width + 7) / 8, "{} bytes for {} codes of {} bits", packed.size(),
            codes.size(), bits);
    std::size_t at = 0;
    for (std::int8_t& code : codes) {
        const unsigned next = at / 8 + 1 < packed.size() ? packed[at / 8 + 1] : 0U;
        const unsigned window = (packed[at / 8] | next << 8) >> (at % 8);
        const unsigned sign = 1U << (width - 1);
        const unsigned value = window & ((1U << width) - 1);
        code = static_cast<std::int8_t>(static_cast<int>(value ^ sign) - static_cast<int>(sign));
        at += width;
    }
}

}  // namespace dither
