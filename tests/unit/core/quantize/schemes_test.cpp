#include "core/quantize/quantizer.hpp"

#include <doctest/doctest.h>
#include <algorithm>
#include <array>

using namespace dither;

TEST_SUITE("core/quantize/schemes") {
    TEST_CASE("every scheme has a name that sets it again") {
        constexpr std::array kGranularities{Granularity::per_tensor, Granularity::per_channel, Granularity::per_sample,
                                            Granularity::per_group};
        constexpr std::array kSymmetries{Symmetry::symmetric, Symmetry::affine};
        CHECK(scheme_choices().size() == kGranularities.size() * kSymmetries.size());
        for (const Granularity granularity : kGranularities)
            for (const Symmetry symmetry : kSymmetries) {
                const QuantizerOptions options{.symmetry = symmetry, .granularity = granularity};
                QuantizerOptions parsed;
                CHECK(set_scheme(parsed, scheme_name(options)));
                CHECK(parsed == options);
                CHECK(std::ranges::count(scheme_choices(), scheme_name(options), &Choice::name) == 1);
            }
        QuantizerOptions options;
        CHECK_FALSE(set_scheme(options, "per_row_symmetric"));
        CHECK(options == QuantizerOptions{});
    }

    TEST_CASE("the observers that a parameter stands for are named after their papers") {
        const auto choices = observer_choices();
        std::size_t learned = 0;
        for (std::size_t i = 0; i < choices.size(); ++i)
            if (is_learned(static_cast<Observer>(i))) {
                ++learned;
                CHECK((choices[i].name == "lsq" || choices[i].name == "lsq_plus" || choices[i].name == "pact"));
            }
        CHECK(learned == 3);
    }
}
