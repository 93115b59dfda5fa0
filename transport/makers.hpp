// Who makes what a job's words name on both ends of a federation.
#pragma once

#include "core/data/dataset.hpp"
#include "core/model/model.hpp"
#include "transport/codec.hpp"

#include <functional>
#include <memory>

namespace dither {

/// The factories of this project, or those of a program that brings parts of its own; such a one hands on to these
/// what it does not make itself. Both ends need the same: a job says nothing of them. Equal arguments give equal parts.
/// A simulation's workers call them from several threads.
struct Makers {
    /// The data of a simulation. A node that speaks for one client has its own: SessionSetup::data.
    std::function<DataSplits(const Job&)> data = load_data_to_deal;
    /// The network; job.model has the words, and the schema is all that the rest knows of it.
    std::function<std::unique_ptr<Model>(const ModelOptions&, const QuantizeOptions&, const ModelInput&,
                                         const Backend&)>
        model = make_model;
    /// The codec of one direction; options.kind may be any word.
    std::function<std::unique_ptr<Codec>(const CodecOptions&, const Schema&)> codec = make_codec;
};

}  // namespace dither
