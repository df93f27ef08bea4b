#!/usr/bin/env bash
# Installs what the tests need, and runs every check that has to pass. Stops at the first that fails.
#
#   bash tests/run.sh           all checks and tests, and the seconds that each step took
#   bash tests/run.sh --soak    what takes long and finds little: Miri, repeated tests, large runs, measurements
#
# Root is needed only to install packages of the system that are missing.
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1-}" in
'') soak= ;;
--soak) soak=yes ;;
*) echo "usage: bash tests/run.sh [--soak]" >&2; exit 2 ;;
esac

command -v cargo >/dev/null || { echo "no cargo: install Rust from https://rustup.rs" >&2; exit 1; }

# What is missing. The first line of output says what will be installed.
components=()
for component in rustfmt clippy; do
  cargo "${component#rust}" --version >/dev/null 2>&1 || components+=("$component")
done
packages=()
# The TLS library below reqwest is C.
command -v cc >/dev/null || packages+=(gcc libc6-dev)
# The tests start and end servers of their own. Debian keeps nginx where only root's PATH looks.
command -v redis-server >/dev/null || packages+=(redis-server)
PATH="$PATH:/usr/sbin" command -v nginx >/dev/null || packages+=(nginx)
# What the other servers of tests/interop are installed with.
command -v node >/dev/null || packages+=(nodejs)
command -v npm >/dev/null || packages+=(npm)
python3 -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3-venv)
lists=$(bash tests/interop/install.sh --missing)

missing=()
[ ${#packages[@]} = 0 ] || missing+=("with apt-get, as root: ${packages[*]}")
[ ${#components[@]} = 0 ] || missing+=("with rustup: ${components[*]}")
[ -z "$lists" ] || missing+=("below the target folder: what tests/interop lists in ${lists// / and }")
if [ ${#missing[@]} = 0 ]; then echo "installs nothing: all that the tests need is there"
else (IFS=';' && echo "installs ${missing[*]}" | sed 's/;/; /g'); fi

work=$(mktemp -d)
rows=()
step=

# Seconds of user and system that all commands so far have taken. `times` speaks of the shell that it runs in, so it
# doesn't stand in a pipe.
read_cpu() {
  times >"$work/times"
  cpu=$(awk 'NR == 2 { gsub(/[ms]/, " "); printf "%d", $1 * 60 + $2 + $3 * 60 + $4 }' "$work/times")
}

end_step() {
  [ -n "$step" ] || return 0
  read_cpu
  rows+=("$(printf '%-36s %5d s %5d s' "$step" $((SECONDS - began)) $((cpu - cpu_began)))")
  printf -- '-- %d s, %d s of CPU\n' $((SECONDS - began)) $((cpu - cpu_began))
  step=
}

step() {
  end_step
  step=$1 began=$SECONDS
  read_cpu
  cpu_began=$cpu
  printf '\n\033[1m== %s\033[0m\n' "$step"
}

# Debian's packages start their services and enable them at boot; a test needs neither. `policy-rc.d` denies the start.
# To enable a service is to make links below /etc. Here the tools that made them remove them: `systemctl disable`
# refuses to where systemd doesn't run, as in a container.
install_packages() {
  if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
    echo "no ${packages[*]}: install them, or run this as root on a system with apt-get" >&2
    exit 1
  fi
  policy=/usr/sbin/policy-rc.d
  if [ -e $policy ]; then policy=
  else printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy; fi
  apt-get update -q
  DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends "${packages[@]}"
  [ -z "$policy" ] || rm -f $policy
  policy=
  local service
  for service in nginx redis-server; do
    # Only what this script has just installed.
    [[ " ${packages[*]} " = *" $service "* ]] || continue
    # It wants to be told which package's script calls it.
    ! command -v deb-systemd-helper >/dev/null ||
      DPKG_MAINTSCRIPT_PACKAGE=$service deb-systemd-helper disable $service.service
    ! command -v update-rc.d >/dev/null || update-rc.d $service disable
  done
}

policy=
passed=
finish() {
  [ -z "$policy" ] || rm -f "$policy"
  [ -n "$passed" ] || [ -z "$step" ] || step="$step (failed)"
  end_step
  printf '\n%-36s %7s %7s\n' step wall CPU
  printf '%s\n' "${rows[@]}"
  read_cpu
  printf '%-36s %5d s %5d s\n' all $SECONDS "$cpu"
  rm -rf "$work"
  [ -z "$passed" ] || echo "all good"
}
trap finish EXIT
# A signal ends it by way of `finish`, with a status that isn't 0.
trap 'exit 130' INT TERM

if [ ${#missing[@]} != 0 ]; then
  step "install"
  [ ${#packages[@]} = 0 ] || install_packages
  [ ${#components[@]} = 0 ] || rustup component add "${components[@]}"
  bash tests/interop/install.sh
fi

# Nothing here is compiled twice for one purpose: these steps have one target folder, one profile, and the features of
# the whole workspace, which cargo unites for the packages that a command selects.
all=(--locked --workspace --all-features)
# Incremental compilation costs the first run, and there is no second one.
[ -z "${CI-}" ] || export CARGO_INCREMENTAL=0

if [ -n "$soak" ]; then
  step "the model under Miri"
  # Says which toolchain has Miri and the standard library's source. Without the latter Miri would download it, unasked.
  miri_toolchain() {
    local toolchain sysroot
    for toolchain in "" +nightly; do
      sysroot=$(RUSTUP_AUTO_INSTALL=0 rustc $toolchain --print sysroot 2>/dev/null) || continue
      [ -d "$sysroot/lib/rustlib/src/rust/library" ] || continue
      cargo $toolchain miri --version >/dev/null 2>&1 || continue
      echo "toolchain=$toolchain"
      return
    done
    return 1
  }
  if found=$(miri_toolchain); then
    cargo ${found#toolchain=} miri test --locked -p tower-auth-model --no-default-features
  else
    echo "skipped: no toolchain has both Miri and rust-src; rustup component add --toolchain nightly miri rust-src"
  fi

  step "tests, ten times"
  cargo build "${all[@]}" --examples
  for _ in 1 2 3 4 5 6 7 8 9 10; do cargo test "${all[@]}" --quiet --test it --test interop --test mcp; done

  step "chaos: a minute, 2,000 callers"
  cargo run --locked --release -p tower-auth-examples --example chaos

  step "fleet_sim: 100,000 processes"
  cargo run --locked --release -p tower-auth-examples --example fleet_sim

  step "tenants: 100,000"
  cargo run --locked --release --example tenants --features tenants

  step "benches"
  cargo bench --locked -p tower-auth-benches

  step "the bench beside others: lints, and a quick run"
  cargo clippy --locked --release --manifest-path benches/peers/Cargo.toml --all-targets -- -D warnings
  cargo run --locked --release --manifest-path benches/peers/Cargo.toml -- --quick
  if command -v valgrind >/dev/null; then bash benches/peers/drift.sh; else echo "skipped drift.sh: no valgrind"; fi
  passed=yes
  exit
fi

step "format"
cargo fmt --all --check
cargo fmt --manifest-path benches/peers/Cargo.toml --check

step "unit tests"
cargo test "${all[@]}" --lib

step "tests"
# Some tests run the examples: all of them, see `tests/it/documented/examples`.
cargo build "${all[@]}" --examples
cargo test "${all[@]}" --test it

step "tests against real servers"
cargo test "${all[@]}" --test interop --test mcp

step "model: every order of threads"
cargo test "${all[@]}" --test model

step "doc tests"
cargo test "${all[@]}" --doc

step "tests without features"
# The model without loom runs on the system's threads, many times over.
cargo test --locked -p tower-auth-tests -p tower-auth-model --no-default-features --test it --test model

step "benches, once and unmeasured"
cargo test "${all[@]}" --bench '*' -- --test

step "chaos: ten seconds, 500 callers"
"${CARGO_TARGET_DIR:-target}/debug/examples/chaos" --seconds 10 --callers 500

step "lints"
cargo clippy "${all[@]}" --all-targets -- -D warnings
cargo clippy --locked -p tower-auth-model --no-default-features --all-targets -- -D warnings
# Of the bench beside others, what compiles without them.
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target} \
  cargo clippy --locked --manifest-path benches/peers/Cargo.toml --no-default-features --all-targets -- -D warnings

step "each feature alone, and none"
# By clippy, which has warnings denied in this package only; with RUSTFLAGS, all that it depends on would be compiled
# again. `default` is `reqwest` alone, and `full` is all of them, with the examples.
features=$(sed -n '/^\[features\]/,/^\[dep/p' Cargo.toml | sed -n 's/^\([a-z][a-z0-9-]*\) = .*/\1/p' | grep -vxE 'default|full')
[ "$(wc -w <<<"$features")" -gt 10 ] || { echo "found no features" >&2; exit 1; }
cargo clippy --locked --quiet --lib --no-default-features -- -D warnings
for feature in $features; do
  echo "$feature"
  cargo clippy --locked --quiet --lib --no-default-features --features "$feature" -- -D warnings
done
# The examples as README has them run: with the features of the root package's own dev-dependencies.
cargo clippy --locked --quiet --all-features --lib --examples -- -D warnings

step "docs"
RUSTDOCFLAGS="-D warnings" cargo doc "${all[@]}" --no-deps --quiet

step "the package from outside"
bash tests/supply.sh

passed=yes
