// Job texts that nobody would write: an aggregator's welcome brings up to 1 MiB of them.
#include "core/config.hpp"
#include "core/detail/joining_dots.hpp"
#include "core/error.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <string>

using dither::InputError;
using dither::parse_job;
using dither::detail::joining_dots;

namespace {

constexpr std::size_t kMany = 100'000;

std::string repeated(const std::string& piece, std::size_t times) {
    std::string text;
    for (std::size_t i = 0; i < times; ++i)
        text += piece;
    return text;
}

std::string refusal_of(const std::string& toml) {
    try {
        parse_job(toml, "job.toml");
    } catch (const InputError& error) {
        return error.what();
    }
    return "";
}

}  // namespace

TEST_SUITE("core/hostile_job") {
    TEST_CASE("keys of any number of parts are refused, however they are written") {
        for (const char* part : {"a.", "1.", "1.1a.", "\"=\".", "'a' . ", "a.\"'\".", "1.1-1."}) {
            CAPTURE(part);
            const std::string key = repeated(part, kMany) + "a";
            for (const std::string& toml : {key + " = 1", "[" + key + "]", "a = { " + key + " = 1 }",
                                            "x = [\n'''\n\"''', { y = \"\"\"\n' \"\"\", " + key + " = 1 }]"})
                CHECK(refusal_of(toml) == "job.toml: more than 5000 dots outside of numbers");
        }
    }

    TEST_CASE("numbers may be as many as they are, and each has one dot") {
        CHECK(joining_dots("data.mean = [0.1, -2.5e-3,+1.0,3.25]") == 1);
        CHECK(joining_dots("1.1.1.1") == 2);
        CHECK(joining_dots(".5 5. a.5 5.a") == 4);
        CHECK(refusal_of("data.mean = [" + repeated("0.5, ", kMany) + "1.5]\ndata.deviation = [" +
                         repeated("0.5, ", kMany) + "1.5]")
                  .empty());
    }

    TEST_CASE("an unknown key of any length is refused at once") {
        const std::string key(std::size_t{1} << 20, 'a');
        CHECK(refusal_of(key + " = 1").find("unknown key") != std::string::npos);
        CHECK(refusal_of("[[model.layers]]\nkind = \"relu\"\n" + key + " = 1").find("unknown key") !=
              std::string::npos);
    }

    TEST_CASE("overrides cost what each of them costs") {
        const std::string layers = repeated("{ match = \"a\", weights = { bits = 4 } }, ", 10'000);
        CHECK(refusal_of("quantize.layers = [" + layers + "]").empty());
    }
}
