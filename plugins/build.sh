#!/bin/sh
# Builds providers and guests: compiles crates for wasm32-unknown-unknown and makes a component of each.
#
#   plugins/build.sh PACKAGE...           builds target/components/NAME.wasm of each coffer-NAME
#   plugins/build.sh --lint PACKAGE...    runs clippy on them instead
#
# The wasm toolchain is found in this order; the script says which one it took.
#
#   rustup   The compiler in PATH, if it has the target or `rustup target add` gives it the target.
#   debian   Debian's rustc-web, cargo-web, rust-web-src and lld-19, which are installed if this may be done. They
#            have no compiled std for the target, so it is compiled along.
#
# Environment:
#   WASM_TOOLCHAIN   rustup or debian: takes this one and no other
#   COMPONENTIZE     path of a coffer-componentize that is already built; it is built when this is not set
set -eu

target=wasm32-unknown-unknown
packages_of_debian="rustc-web cargo-web rust-web-src lld-19"

fail() {
    echo "error: $1" >&2
    exit 1
}

cd "$(dirname "$0")/.."
cargo_home=${CARGO_HOME:-$HOME/.cargo}

# Whether the compiler in PATH has a compiled std for the target; true for a rustup that has it and for a
# distribution that ships it.
target_is_there() {
    folder=$(rustc --print target-libdir --target "$target" 2>/dev/null) && [ -d "$folder" ]
}

add_target_by_rustup() {
    command -v rustup >/dev/null 2>&1 || return 1
    echo "wasm toolchain: adding $target by rustup"
    rustup target add "$target" && target_is_there
}

debian_is_there() {
    [ -x /usr/bin/cargo ] && [ -x /usr/bin/rustc ] && [ -x /usr/bin/wasm-ld-19 ] &&
        [ -d "$(/usr/bin/rustc --print sysroot)/lib/rustlib/src/rust/library/std" ]
}

add_debian() {
    # shellcheck disable=SC2086 # one word per package
    .ci/install-packages $packages_of_debian && debian_is_there
}

# Sets `toolchain` to rustup or debian.
choose_toolchain() {
    toolchain=${WASM_TOOLCHAIN:-}
    case $toolchain in
    rustup)
        target_is_there || add_target_by_rustup || fail "rustup could not add the target $target"
        ;;
    debian)
        debian_is_there || add_debian || fail "Debian's wasm toolchain is not there: $packages_of_debian"
        ;;
    '')
        if target_is_there || add_target_by_rustup; then
            toolchain=rustup
        elif debian_is_there || add_debian; then
            toolchain=debian
        else
            fail "there is no Rust compiler for $target. Either run 'rustup target add $target' where rustup may
download, or install the Debian packages $packages_of_debian"
        fi
        ;;
    *) fail "WASM_TOOLCHAIN is '$toolchain', but may only be rustup, debian or unset" ;;
    esac
}

# Flags in the environment replace those of every configuration file, so all of them stand here, in the form that
# takes paths with spaces. The first keeps getrandom, which some crate may pull in, from refusing to compile for a
# target without randomness: a provider gets its entropy with the request. The others keep the paths of this machine
# out of the component, so that its digest is the same everywhere.
flags() {
    printf '%s' '--cfg=getrandom_backend="unsupported"'
    printf '\037%s' "--remap-path-prefix=$cargo_home=cargo" "--remap-path-prefix=$PWD=coffer" "$@"
}

# cargo VERB for the target, with the chosen toolchain. Guests have a target folder of their own, or the compilers of
# host and guest would throw away each other's work.
wasm_cargo() {
    verb=$1
    shift
    case $toolchain in
    rustup)
        env CARGO_ENCODED_RUSTFLAGS="$(flags)" CARGO_TARGET_DIR=target/guest \
            cargo "$verb" --target "$target" --profile plugin "$@"
        ;;
    debian)
        # rustup's proxies must not be found first. RUSTC_BOOTSTRAP lets a stable compiler build std.
        env -u RUSTUP_TOOLCHAIN PATH=/usr/bin:/bin CARGO_HOME="$cargo_home" \
            RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 CARGO_ENCODED_RUSTFLAGS="$(flags -Clinker=wasm-ld-19)" \
            CARGO_TARGET_DIR=target/guest \
            /usr/bin/cargo "$verb" -Zbuild-std=std,panic_abort --target "$target" --profile plugin "$@"
        ;;
    esac
}

say_toolchain() {
    case $toolchain in
    rustup) echo "wasm toolchain: rustup ($(rustc --version))" ;;
    debian) echo "wasm toolchain: Debian packages ($(/usr/bin/rustc --version))" ;;
    esac
}

lint() {
    # Clippy is a part of rustup's toolchain; Debian's web packages have none.
    if ! target_is_there; then
        echo "wasm toolchain: the compiler in PATH has no $target, so guests are not linted"
        return
    fi
    toolchain=rustup
    # shellcheck disable=SC2086 # one word per argument
    wasm_cargo clippy --quiet $selection -- -D warnings
}

build() {
    choose_toolchain
    say_toolchain
    for package in "$@"; do
        # Of a crate that is a library for Rust as well, cargo optimises nothing at link time, whatever the profile says:
        # a seventh of the provider's size. So the component's kind is named; only `rustc` takes it, one package a time.
        wasm_cargo rustc --package "$package" --crate-type cdylib
    done
    if [ -z "${COMPONENTIZE:-}" ]; then
        cargo build --quiet --package coffer-componentize
        COMPONENTIZE=target/debug/coffer-componentize
    fi
    mkdir -p target/components
    for package in "$@"; do
        name=${package#coffer-}
        module=target/guest/$target/plugin/$(echo "$package" | tr - _).wasm
        "$COMPONENTIZE" "$module" "target/components/$name.wasm"
    done
}

action=build
if [ "${1:-}" = --lint ]; then
    action=lint
    shift
fi
[ $# -gt 0 ] || fail "usage: plugins/build.sh [--lint] PACKAGE..."
selection=
for package in "$@"; do
    selection="$selection --package $package"
done
$action "$@"
