#!/usr/bin/env bash
# Checks the docs, the packages, the dependencies and the public API: warnings of rustdoc, what would be published, types
# of other crates in the API, unused dependencies, licenses, sources, advisories, and whether this version is compatible
# with the last release. Skips checks whose tools aren't installed, and lists them at the end. Installs nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
skipped=()
skip() { echo "skipped: $*"; skipped+=("$*"); }
# Whether a cargo subcommand is installed.
has() { cargo "$1" --version >/dev/null 2>&1; }

target=$(cargo metadata --locked --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
out=$target/supply
mkdir -p "$out"

say "the docs, and the public API, as rustdoc describes it"
# The target folder of the other checks of `run.sh`, which have compiled most dependencies as rustdoc needs them.
docs=$target/other-checks
document() { CARGO_TARGET_DIR=$docs cargo doc --locked --quiet --no-deps "$@"; }
# rustdoc's JSON and feature badges are nightly features, which the variable enables in any toolchain. It is set for
# rustdoc alone; if it were set for cargo, half of the dependencies would be built again.
printf '#!/bin/sh\nRUSTC_BOOTSTRAP=1 exec "%s" "$@"\n' "${RUSTDOC:-rustdoc}" >"$out/rustdoc"
chmod +x "$out/rustdoc"
json() {
  local name=$1
  shift
  RUSTDOC=$out/rustdoc RUSTDOCFLAGS="-Z unstable-options --output-format json --cap-lints allow" \
    document "$@"
  mv "$docs/doc/tower_auth.json" "$out/$name.json"
}
rm -rf "$out"/*.json "$out/html"
# Before 1.92, rustdoc makes no badges automatically.
minor=$(rustc --version | sed 's/^rustc 1\.\([0-9]*\).*/\1/')
if [ "$minor" -ge 92 ] && json none --no-default-features && json all --workspace --all-features; then
  mv "$docs/doc/tower_auth_test.json" "$out/kit.json"
  # As docs.rs runs it.
  RUSTDOC=$out/rustdoc RUSTDOCFLAGS="--cfg docsrs -D warnings" document --workspace --all-features
  cp -r "$docs/doc/tower_auth" "$out/html"
  grep -q "<code>loopback</code>" "$docs/doc/tower_auth_test/struct.Loopback.html" ||
    { echo "the page of tower_auth_test::Loopback doesn't show its feature" >&2; exit 1; }
  PUBLIC_API=$out cargo test --locked --workspace --all-features --test it -- documented::public --include-ignored
elif [ -n "${CI:-}" ]; then
  echo "this toolchain's rustdoc can't describe the public API; use Rust 1.92 or later" >&2
  exit 1
else
  RUSTDOCFLAGS="-D warnings" document --workspace --all-features
  skip "the public API: this toolchain's rustdoc can't describe it; use Rust 1.92 or later"
fi

say "the packages, as they would be published"
# Nothing is uploaded. `run.sh --soak` also builds each package from its own files.
cargo publish --locked --quiet --dry-run --no-verify --allow-dirty \
  --package tower-auth --package tower-auth-test --package tower-auth-token

say "unused dependencies"
if has machete; then cargo machete; else skip "cargo-machete (cargo install --locked cargo-machete)"; fi

say "licenses, sources, and duplicate crates"
if has deny; then
  cargo deny --locked --all-features check bans licenses sources
  if compgen -G "${CARGO_HOME:-$HOME/.cargo}/advisory-dbs/*/.git" >/dev/null; then
    cargo deny --locked --all-features check advisories
  else
    skip "advisories: the database is missing (cargo deny fetch db)"
  fi
else
  skip "cargo-deny (cargo install --locked cargo-deny)"
fi

say "breaking changes since the last release"
last=$(git describe --tags --abbrev=0 --match 'v*' 2>/dev/null || true)
if ! has semver-checks; then
  skip "cargo-semver-checks (cargo install --locked cargo-semver-checks)"
elif [ -z "$last" ]; then
  skip "cargo-semver-checks: no release to compare with"
else
  for package in tower-auth tower-auth-test; do
    cargo semver-checks --package $package --all-features --baseline-rev "$last"
  done
fi

say "done"
for what in "${skipped[@]}"; do echo "skipped: $what"; done
