#!/usr/bin/env bash
# Installs what the tests need, and runs every required check. Stops at the first check that fails.
#
#   bash tests/run.sh           all checks and tests; prints the seconds that each step took
#   bash tests/run.sh --soak    slow checks that rarely find anything: Miri, repeated tests, fuzzing, large runs
#
# Needs root only to install missing system packages.
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1-}" in
'') soak= ;;
--soak) soak=yes ;;
*) echo "usage: bash tests/run.sh [--soak]" >&2; exit 2 ;;
esac

command -v cargo >/dev/null || { echo "cargo is missing; install Rust from https://rustup.rs" >&2; exit 1; }

# Collects what is missing. The first line of output says what will be installed.
components=()
for component in rustfmt clippy; do
  cargo "${component#rust}" --version >/dev/null 2>&1 || components+=("$component")
done
packages=()
# reqwest's TLS library is written in C.
command -v cc >/dev/null || packages+=(gcc libc6-dev)
# The tests start and stop their own servers. Debian installs nginx in a folder that only root's PATH contains.
command -v redis-server >/dev/null || packages+=(redis-server)
PATH="$PATH:/usr/sbin" command -v nginx >/dev/null || packages+=(nginx)
# These install the other servers of tests/interop.
command -v node >/dev/null || packages+=(nodejs)
command -v npm >/dev/null || packages+=(npm)
python3 -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3-venv)
lists=$(bash tests/interop/install.sh --missing)

missing=()
[ ${#packages[@]} = 0 ] || missing+=("with apt-get, as root: ${packages[*]}")
[ ${#components[@]} = 0 ] || missing+=("with rustup: ${components[*]}")
[ -z "$lists" ] || missing+=("below the target folder: the packages that tests/interop lists in ${lists// / and }")
if [ ${#missing[@]} = 0 ]; then echo "installs nothing: everything that the tests need is installed"
else (IFS=';' && echo "installs ${missing[*]}" | sed 's/;/; /g'); fi

work=$(mktemp -d)
rows=()
step=

# Sets `cpu` to the seconds of user and system time that all commands so far have taken. `times` describes the shell
# that runs it, so it can't run in a pipe.
read_cpu() {
  # Another shell runs at the same time.
  local file=$work/times.$BASHPID
  times >"$file"
  cpu=$(awk 'NR == 2 { gsub(/[ms]/, " "); printf "%d", $1 * 60 + $2 + $3 * 60 + $4 }' "$file")
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

# Debian's packages start their services and enable them at boot, and the tests need neither. `policy-rc.d` prevents
# the start. Enabling a service makes links below /etc, and the tools that made the links remove them here. `systemctl
# disable` fails where systemd doesn't run, as in a container.
install_packages() {
  if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
    echo "missing packages: ${packages[*]}; install them, or run this as root on a system with apt-get" >&2
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
    # Only services that this script has just installed.
    [[ " ${packages[*]} " = *" $service "* ]] || continue
    # The tool requires the name of the package whose script calls it.
    ! command -v deb-systemd-helper >/dev/null ||
      DPKG_MAINTSCRIPT_PACKAGE=$service deb-systemd-helper disable $service.service
    ! command -v update-rc.d >/dev/null || update-rc.d $service disable
  done
}

# The checks that compile what no test needs, mostly on one core.
other_checks() {
  step "lints of benches/peers"
  # The part that compiles without the other crates.
  cargo clippy --locked --manifest-path benches/peers/Cargo.toml --no-default-features --all-targets -- -D warnings

  step "each feature alone, and none"
  # Clippy denies warnings in this package only; with RUSTFLAGS, all dependencies would be compiled again. `default` is
  # `reqwest` alone, and `full` is all features, which the examples need.
  features=$(sed -n '/^\[features\]/,/^\[dep/p' Cargo.toml | sed -n 's/^\([a-z][a-z0-9-]*\) = .*/\1/p' | grep -vxE 'default|full')
  [ "$(wc -w <<<"$features")" -gt 10 ] || { echo "found no features" >&2; exit 1; }
  cargo clippy --locked --quiet --lib --no-default-features -- -D warnings
  for feature in $features; do
    echo "$feature"
    cargo clippy --locked --quiet --lib --no-default-features --features "$feature" -- -D warnings
  done
  # The examples with the features that the README's commands use: those of the root package's own dev-dependencies. The
  # step "tests" lints the examples.
  cargo check --locked --quiet --all-features --examples
}

# Starts them, to run beside the tests. Cargo locks a target folder, so they get a copy of it, in which the dependencies
# that they share with the tests are compiled.
start_checks() {
  local target=${CARGO_TARGET_DIR:-target}
  if [ ! -d "$target/other-checks" ]; then
    mkdir -p "$target/other-checks/debug"
    cp -al "$target/debug/deps" "$target/other-checks/debug/"
    cp -a "$target/debug/.fingerprint" "$target/debug/build" "$target/other-checks/debug/"
  fi
  # A process group of their own, so that `finish` can stop them and what they started.
  set -m
  (
    trap 'end_step; printf "%s\n" "${rows[@]}" >"$work/rows"' EXIT
    rows=() step=
    export CARGO_TARGET_DIR=$target/other-checks
    unset RUSTC_WORKSPACE_WRAPPER CLIPPY_ARGS
    other_checks
    end_step
  ) >"$work/log" 2>&1 &
  checks=$!
  set +m
}

# Waits for them, and fails if they failed.
await_checks() {
  local status=0
  wait "$checks" || status=$?
  checks=
  cat "$work/log"
  mapfile -t -O ${#rows[@]} rows <"$work/rows"
  return $status
}

policy=
passed=
checks=
finish() {
  [ -z "$checks" ] || kill -- "-$checks" 2>/dev/null || true
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
# On a signal, `finish` runs too, and the exit status isn't 0.
trap 'exit 130' INT TERM

if [ ${#missing[@]} != 0 ]; then
  step "install"
  [ ${#packages[@]} = 0 ] || install_packages
  [ ${#components[@]} = 0 ] || rustup component add "${components[@]}"
  bash tests/interop/install.sh
fi

# These steps compile nothing twice: they share one target folder, one profile and the features of the whole workspace,
# because cargo unites the features of the packages that a command selects.
all=(--locked --workspace --all-features)
# Incremental compilation slows the first run, and in CI there is no second run.
[ -z "${CI-}" ] || export CARGO_INCREMENTAL=0

if [ -n "$soak" ]; then
  step "the model under Miri"
  # Prints the toolchain that has Miri and the standard library's source. If the source is missing, Miri downloads it.
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
    echo "skipped: no toolchain has both Miri and rust-src; run rustup component add --toolchain nightly miri rust-src"
  fi

  step "tests, ten times"
  cargo build "${all[@]}" --examples
  for _ in 1 2 3 4 5 6 7 8 9 10; do cargo test "${all[@]}" --quiet --test it --test interop --test mcp; done

  step "tests without what only Unix has"
  # Clippy's driver gives the flag only to the workspace, so cargo doesn't compile the dependencies again. This step
  # skips `fleet::processes` and `documented`, which run examples, and the simulated hours of refusals.
  driver_args=(-Dwarnings --cfg tower_auth_portable)
  RUSTC_WORKSPACE_WRAPPER=clippy-driver CLIPPY_ARGS=$(printf '%s__CLIPPY_HACKERY__' "${driver_args[@]}") \
    cargo test "${all[@]}" --test it -- --skip documented --skip fleet::processes --skip refusal_evidence

  step "a login under kills: 60 s"
  cargo test "${all[@]}" --test interop -- logins_under_kills --ignored --nocapture

  step "chaos: 60 s, 2,000 callers"
  cargo run --locked --release -p tower-auth-examples --example chaos

  step "fleet_sim: 100,000 processes"
  cargo run --locked --release -p tower-auth-examples --example fleet_sim

  step "tenants: 100,000"
  cargo run --locked --release --example tenants --features tenants

  step "the packages, built as they would be published"
  # Builds each package from its own files, on top of the packages before it. Nothing is uploaded.
  cargo publish --locked --quiet --dry-run --allow-dirty \
    --package tower-auth --package tower-auth-test --package tower-auth-token

  step "fuzzing: 1 min for each target"
  if cargo fuzz --version >/dev/null 2>&1; then bash tests/fuzz/run.sh 1; else echo "skipped: cargo-fuzz is missing"; fi

  step "benches"
  cargo bench --locked -p tower-auth-benches

  step "benches/peers: lints, quick run"
  cargo clippy --locked --release --manifest-path benches/peers/Cargo.toml --all-targets -- -D warnings
  cargo run --locked --release --manifest-path benches/peers/Cargo.toml -- --quick
  if command -v valgrind >/dev/null; then bash benches/peers/drift.sh; else echo "skipped drift.sh: valgrind is missing"; fi
  passed=yes
  exit
fi

step "format"
cargo fmt --all --check
cargo fmt --manifest-path benches/peers/Cargo.toml --check
cargo fmt --manifest-path tests/fuzz/Cargo.toml --check

# `cargo clippy` would compile everything again, only to lint it. With Clippy's driver as the compiler, the steps below
# lint what they build, which is every target of the workspace. `cargo clippy -- -D warnings` sets the same variables.
export RUSTC_WORKSPACE_WRAPPER=clippy-driver CLIPPY_ARGS=-D__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__

step "lints and unit tests"
cargo test "${all[@]}" --lib --example unit_test
start_checks

step "tests"
# `tests/it/documented/examples` runs all examples.
cargo build "${all[@]}" --examples
cargo test "${all[@]}" --test it --test memory

step "tests against real servers"
cargo test "${all[@]}" --test interop --test mcp

step "model: all thread interleavings"
cargo test "${all[@]}" --test model

step "doc tests"
cargo test "${all[@]}" --doc

step "tests without features"
# Without loom, the model runs on system threads, many times. The simulated hours of refusals don't depend on features.
cargo test --locked -p tower-auth-tests -p tower-auth-model --no-default-features --test it --test model -- \
  --skip layer::refusal_evidence

step "benches, once and unmeasured"
cargo test "${all[@]}" --bench '*' -- --test

step "chaos: 10 s, 500 callers"
"${CARGO_TARGET_DIR:-target}/debug/examples/chaos" --seconds 10 --callers 500

step "waiting for the other checks"
await_checks

step "the docs, and the package from the outside"
bash tests/supply.sh

passed=yes
