// dither-simulate as a function: a program that brings parts of its own is this one with other makers.
#pragma once

#include "aggregator/makers.hpp"

namespace dither {

/// The whole program, command line, signals and MPI included; returns its exit code. Once in a process.
int simulate(int argc, char** argv, const ServerMakers& makers = {});

}  // namespace dither
