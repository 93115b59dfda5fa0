// Kernels on Eigen's vectors behind the compute interface: portable, and compiled for several instruction sets of
// x86-64, of which one is chosen at run time. Convolutions sum over the windows of each image where they are.
#pragma once

#include "core/compute/backend.hpp"

#include <memory>
#include <string_view>
#include <vector>

namespace dither {

/// The instruction sets that this program was compiled for and this processor has, slowest first; never empty.
std::vector<std::string_view> eigen_instruction_sets();

/// `instruction_set` is one of eigen_instruction_sets(). Throws PreconditionError otherwise.
std::unique_ptr<Backend> make_eigen_backend(std::string_view instruction_set);

}  // namespace dither
