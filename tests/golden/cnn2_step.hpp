// The step of cnn2_step.json.
#pragma once

#include "tests/golden/golden_step.hpp"
