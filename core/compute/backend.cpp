#include "core/compute/backend.hpp"

#include "core/compute/eigen_backend.hpp"
#include "core/config.hpp"
#include "core/error.hpp"

namespace dither {

std::unique_ptr<Backend> make_backend(const ComputeOptions& options) {
    if (options.backend == "auto" || options.backend == "eigen")
        return make_eigen_backend(eigen_instruction_sets().back());
    throw InputError(fmt::format(R"(compute.backend: expected "auto" or "eigen", got "{}")", options.backend));
}

}  // namespace dither
