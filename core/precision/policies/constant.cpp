// The same bits in forward, backward and optimizer, always.
#include "core/error.hpp"
#include "core/precision/detail/policies.hpp"

namespace dither {
namespace {

class Constant final : public Policy {
public:
    Constant(int bits, std::size_t layers) : bits_(bits), layers_(layers) {}

    PrecisionPlan initial() const override { return local_plan(layers_, bits_, bits_, bits_); }
    std::vector<PlanChange> update(const Observation&, PrecisionPlan&) override { return {}; }

private:
    int bits_;
    std::size_t layers_;
};

}  // namespace

std::unique_ptr<Policy> make_fp32(const PrecisionOptions&, const Schema& schema) {
    return std::make_unique<Constant>(kFullBits, schema.layer_count());
}

std::unique_ptr<Policy> make_uniform(const PrecisionOptions& options, const Schema& schema) {
    if (!Levels(options.levels).contains(options.bits))
        throw InputError(fmt::format("precision.bits = {}: expected one of precision.levels [{}]", options.bits,
                                     fmt::join(options.levels, ", ")));
    return std::make_unique<Constant>(options.bits, schema.layer_count());
}

}  // namespace dither
