#include "node/residual_store.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <fstream>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include <fcntl.h>

#include "core/durable_file.hpp"
#include "core/error.hpp"
#include "core/little_endian.hpp"
#include "core/vector_math.hpp"
#include "node/detail/residual_file.hpp"

namespace dither {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kMagic = "DITHRES1";
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kHeaderBytes = 24;
constexpr std::size_t kDigestBytes = std::tuple_size_v<Sha256>;

std::size_t residual_bytes(std::size_t parameters) {
    return sizeof(std::uint32_t) + sizeof(float) * parameters;
}

std::size_t file_bytes(std::size_t parameters) {
    return kHeaderBytes + 2 * residual_bytes(parameters) + kDigestBytes;
}

std::string_view as_text(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

class Writer {
public:
    explicit Writer(std::size_t size) { bytes_.reserve(size); }
    void add(std::string_view text) { bytes_ += text; }
    template <typename Number>
    void add(Number value) {
        std::array<std::byte, sizeof(value)> bytes;
        store_little(value, bytes.data());
        add(as_text(bytes));
    }
    void add(const Residual& residual) {
        add(residual.round);
        for (const float value : residual.values)
            add(value);
    }
    const std::string& bytes() const { return bytes_; }

private:
    std::string bytes_;
};

/// The bytes of a file, which has `expected` of them; nothing if there is none. Throws FormatError on another length.
std::optional<std::vector<std::byte>> read_file(const fs::path& file, std::size_t expected) {
    std::error_code error;
    const std::uintmax_t size = fs::file_size(file, error);
    if (error == std::errc::no_such_file_or_directory)
        return std::nullopt;
    if (error)
        throw FormatError(fmt::format("cannot be read: {}", error.message()));
    if (size != expected)
        throw FormatError(fmt::format("has {} bytes, expected {} for this model", size, expected));
    std::vector<std::byte> bytes(expected);
    std::ifstream in(file, std::ios::binary);
    in.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    if (!in)
        throw FormatError("cannot be read");
    return bytes;
}

template <typename... Args>
void check(bool holds, fmt::format_string<Args...> problem, Args&&... args) {
    if (!holds)
        throw FormatError(fmt::format(problem, std::forward<Args>(args)...));
}

void check_header(std::span<const std::byte> file, std::uint32_t client, std::size_t parameters) {
    check(file.size() >= kHeaderBytes && as_text(file).starts_with(kMagic), "is no file of residuals");
    const auto version = load_little<std::uint32_t>(file.data() + 8);
    check(version == kVersion, "has version {}, expected {}", version, kVersion);
    const auto owner = load_little<std::uint32_t>(file.data() + 12);
    check(owner == client, "is of client {}, not {}", owner, client);
    const auto count = load_little<std::uint64_t>(file.data() + 16);
    check(count == parameters, "is of a model of {} parameters, not {}", count, parameters);
    check(file.size() == file_bytes(parameters), "has {} bytes, expected {}", file.size(), file_bytes(parameters));
    const auto body = file.first(file.size() - kDigestBytes);
    const Sha256 digest = sha256(as_text(body));
    check(std::ranges::equal(std::as_bytes(std::span(digest)), file.last(kDigestBytes)),
          "is damaged: its SHA-256 does not match");
}

std::string sealed(std::uint32_t client, const Residual& counted, const Residual& newest) {
    Writer writer(file_bytes(newest.values.size()));
    writer.add(kMagic);
    writer.add(kVersion);
    writer.add(client);
    writer.add(std::uint64_t{newest.values.size()});
    writer.add(counted);
    writer.add(newest);
    const Sha256 digest = sha256(std::string_view(writer.bytes()));
    writer.add(as_text(std::as_bytes(std::span(digest))));
    return writer.bytes();
}

/// Until it closes, nobody else saves this client: byte `client` of the folder's lock file is locked. The lock belongs
/// to the descriptor (F_OFD), so that threads exclude each other, too.
FileDescriptor lock(const fs::path& folder, std::uint32_t client) {
    const fs::path file = folder / "residuals.lock";
    FileDescriptor descriptor = FileDescriptor::open(file, O_RDWR | O_CREAT);
    if (!descriptor.valid())
        throw_io_error(file, "open");
    struct flock byte {};
    byte.l_type = F_WRLCK;
    byte.l_whence = SEEK_SET;
    byte.l_start = client;
    byte.l_len = 1;
    while (::fcntl(descriptor.get(), F_OFD_SETLKW, &byte) != 0)
        if (errno != EINTR)
            throw_io_error(file, "lock");
    return descriptor;
}

}  // namespace

bool detail::read_residual(std::span<const std::byte> file, std::uint32_t client, std::uint32_t counted,
                           std::span<float> residual) {
    check_header(file, client, residual.size());
    for (const std::size_t index : {0U, 1U}) {
        const std::byte* at = file.data() + kHeaderBytes + index * residual_bytes(residual.size());
        if (load_little<std::uint32_t>(at) != counted)
            continue;
        for (std::size_t i = 0; i < residual.size(); ++i)
            residual[i] = load_little<float>(at + sizeof(counted) + sizeof(float) * i);
        check(all_finite(residual), "holds a value that is not finite");
        return true;
    }
    return false;
}

ResidualStore::ResidualStore(fs::path folder, std::size_t parameters)
    : folder_(std::move(folder)), parameters_(parameters) {}

fs::path ResidualStore::file_of(std::uint32_t client) const {
    return folder_ / fmt::format("client-{}.residual", client);
}

void ResidualStore::load(std::uint32_t client, std::uint32_t counted, std::span<float> residual) const {
    require(residual.size() == parameters_, "a residual of {} values, expected {}", residual.size(), parameters_);
    const fs::path file = file_of(client);
    try {
        const auto bytes = counted == 0 ? std::nullopt : read_file(file, file_bytes(parameters_));
        if (!bytes || !detail::read_residual(*bytes, client, counted, residual))
            std::ranges::fill(residual, 0.0F);
    } catch (const FormatError& error) {
        throw InputError(
            fmt::format("{} {}; without the file, the client begins with no residual", file.string(), error.what()));
    }
}

Kept ResidualStore::kept(std::uint32_t client) const {
    std::ifstream in(file_of(client), std::ios::binary | std::ios::ate);
    if (!in || in.tellg() != static_cast<std::streamoff>(file_bytes(parameters_)))
        return {};
    std::array<std::byte, sizeof(std::uint32_t)> round;
    Kept kept;
    in.seekg(static_cast<std::streamoff>(kHeaderBytes + residual_bytes(parameters_)));
    in.read(reinterpret_cast<char*>(round.data()), round.size());
    in.seekg(-static_cast<std::streamoff>(kDigestBytes), std::ios::end);
    in.read(reinterpret_cast<char*>(kept.digest.data()), kDigestBytes);
    if (!in)
        return {};
    kept.round = load_little<std::uint32_t>(round.data());
    return kept;
}

bool ResidualStore::save(std::uint32_t client, const Residual& counted, const Residual& newest,
                         const Kept& found) const {
    require(counted.round < newest.round, "a residual of round {} after one of round {}", counted.round, newest.round);
    require(counted.values.size() == parameters_ && newest.values.size() == parameters_,
            "residuals of {} and {} values, expected {}", counted.values.size(), newest.values.size(), parameters_);
    const std::string bytes = sealed(client, counted, newest);
    create_folders(folder_);
    const FileDescriptor locked = lock(folder_, client);
    if (const Kept now = kept(client); now != found && now.round > newest.round)
        return false;
    write_durably(file_of(client), bytes);
    return true;
}

}  // namespace dither
