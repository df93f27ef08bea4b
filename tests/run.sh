#!/usr/bin/env bash
# Installs what the tests need, and runs every check there is: format, lints, docs, each feature
# alone, all tests, the model, all examples. Stops at the first that fails.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }

say "toolchain"
command -v cargo >/dev/null || { echo "no cargo: install Rust from https://rustup.rs" >&2; exit 1; }
for component in rustfmt clippy; do
  cargo "${component#rust}" --version >/dev/null 2>&1 || rustup component add "$component"
done
# The TLS library below reqwest is C, and wants a compiler.
if ! command -v cc >/dev/null; then
  echo "no C compiler; installing one" >&2
  if command -v apt-get >/dev/null; then apt-get update -q && apt-get install -yq gcc libc6-dev
  else echo "install a C compiler, such as gcc" >&2; exit 1; fi
fi
# A real Redis, which the tests start and end themselves. The package would start another, for the whole
# machine.
if ! command -v redis-server >/dev/null; then
  echo "no redis-server; installing one" >&2
  if command -v apt-get >/dev/null; then
    apt-get update -q && RUNLEVEL=1 apt-get install -yq --no-install-recommends redis-server
    if [ -d /run/systemd/system ]; then systemctl disable --now redis-server; fi
  else echo "install redis-server, 5 or later" >&2; exit 1; fi
fi

# The real servers of tests/interop, or what those are installed with. Debian keeps nginx where only root looks.
missing=()
PATH="$PATH:/usr/sbin" command -v nginx >/dev/null || missing+=(nginx)
command -v node >/dev/null || missing+=(nodejs)
command -v npm >/dev/null || missing+=(npm)
python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
if [ ${#missing[@]} != 0 ]; then
  echo "no ${missing[*]}; installing" >&2
  if command -v apt-get >/dev/null; then
    apt-get update -q && RUNLEVEL=1 apt-get install -yq --no-install-recommends "${missing[@]}"
    if [ -d /run/systemd/system ] && [[ " ${missing[*]} " = *" nginx "* ]]; then systemctl disable --now nginx; fi
  else echo "install nginx, Node.js 18 or later with npm, and Python 3.10 or later with venv" >&2; exit 1; fi
fi
bash tests/interop/install.sh

say "format"
cargo fmt --all --check

say "lints"
cargo clippy --locked --all-targets --all-features -- -D warnings

say "docs"
RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --all-features --quiet

say "each feature alone, and none"
features=$(cargo metadata --locked --no-deps --format-version 1 |
  sed 's/.*"features":{//; s/}.*//' | grep -o '"[a-z0-9_-]*":' | tr -d '":')
[ -n "$features" ] || { echo "found no features" >&2; exit 1; }
RUSTFLAGS="${RUSTFLAGS:-} -D warnings" cargo check --locked --lib --no-default-features
for feature in $features; do
  echo "-- $feature"
  RUSTFLAGS="${RUSTFLAGS:-} -D warnings" cargo check --locked --lib --no-default-features --features "$feature"
done

say "tests"
# Some tests run the examples.
cargo build --locked --all-features --examples
cargo test --locked --all-features --lib --tests
cargo test --locked --all-features --doc

say "tests without features"
cargo test --locked --no-default-features --test it

# A package of its own, so that nobody who depends on this one downloads what it stands on.
model() { CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/model" "$@"; }
manifest=tests/model/Cargo.toml

say "the model: every order in which threads can meet"
cargo fmt --manifest-path "$manifest" --check
model cargo clippy --locked --manifest-path "$manifest" --all-targets -- -D warnings
model cargo test --locked --manifest-path "$manifest"

say "the model on the system's threads, many times over"
model cargo clippy --locked --manifest-path "$manifest" --no-default-features --all-targets -- -D warnings
model cargo test --locked --manifest-path "$manifest" --no-default-features

say "the model under Miri"
# Says which toolchain has Miri and the standard library's source. Without the latter Miri would
# download it, unasked.
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
  model cargo ${found#toolchain=} miri test --locked --manifest-path "$manifest" --no-default-features
else
  echo "skipped: no toolchain has both Miri and rust-src;" \
    "rustup component add --toolchain nightly miri rust-src"
fi

say "a client of the Model Context Protocol"
# A package of its own: the protocol's SDK takes long to compile.
mcp() { CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/mcp" "$@"; }
manifest=tests/mcp/Cargo.toml
cargo fmt --manifest-path "$manifest" --check
mcp cargo clippy --locked --manifest-path "$manifest" --all-targets -- -D warnings
mcp cargo test --locked --manifest-path "$manifest"

say "the bench beside others, without what they stand on"
peers=benches/peers/Cargo.toml
cargo fmt --manifest-path "$peers" --check
cargo clippy --locked --release --manifest-path "$peers" --no-default-features --all-targets -- -D warnings

say "the package, looked at from outside"
bash tests/supply.sh

say "examples, against servers they start themselves"
for example in quickstart hyper_client reqwest_client tonic_client axum_proxy \
  api_key json_login refresh_token session dpop discovery protected_resource \
  service_account private_key_jwt token_exchange mtls login_cli device_login step_up fleet tenants; do
  echo "-- $example"
  cargo run --locked --quiet --all-features --example "$example"
done
echo "-- fleet_sim"
cargo run --locked --quiet --all-features --example fleet_sim -- --processes 10,1000
echo "-- chaos"
cargo run --locked --quiet --all-features --example chaos -- --seconds 10 --callers 500
# These want servers from outside; `loopback` starts some and says where in the environment.
for example in print_token metafold meti netfoundry; do
  echo "-- $example"
  cargo run --locked --quiet --all-features --example loopback -- \
    cargo run --locked --quiet --all-features --example "$example"
done

say "benches run (once each, unmeasured)"
cargo bench --locked --all-features --bench hot_path --bench cold_burst --bench dpop -- --test

say "all good"
