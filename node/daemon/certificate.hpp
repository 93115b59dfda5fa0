// What a PEM certificate says of its node.
#pragma once

#include <chrono>
#include <filesystem>
#include <string>
#include <vector>

namespace dither {

struct Certificate {
    std::vector<std::string> names;  ///< DNS names of its subjectAltName
    std::chrono::system_clock::time_point not_before;
    std::chrono::system_clock::time_point not_after;
};

/// The first one of the file. Throws InputError that names the file.
Certificate read_certificate(const std::filesystem::path& file);
/// Whether the file's private key is the certificate's. Throws InputError that names the file which cannot be read.
bool key_fits(const std::filesystem::path& certificate, const std::filesystem::path& key);
/// The node that the certificate is for: its one name. Throws InputError that names the file if it has none or several.
std::string certified_node(const std::filesystem::path& file);

}  // namespace dither
