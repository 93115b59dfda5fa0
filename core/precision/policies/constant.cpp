#include "core/precision/policies/policies.hpp"

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

std::unique_ptr<Policy> make_constant(int bits, std::size_t layers) {
    return std::make_unique<Constant>(bits, layers);
}

}  // namespace dither
