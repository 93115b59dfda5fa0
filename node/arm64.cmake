# Cross-compiles for 64-bit ARM with Debian's toolchain and its multi-arch packages, whose arm64 libraries lie beside this
# machine's own (examples/packages-arm64.sh installs both). What is built runs here under qemu, tests included.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64-static -L /)
set(ENV{PKG_CONFIG_LIBDIR} /usr/lib/aarch64-linux-gnu/pkgconfig:/usr/share/pkgconfig)

# Headers only, but not multi-arch: this machine's are as good.
file(GLOB cereal_DIR /usr/lib/*/cmake/cereal)
