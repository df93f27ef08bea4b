#!/usr/bin/env bash
# What the package stands on, and what its users come to stand on: the types of other crates in its public API,
# unused dependencies, licenses, sources, advisories, and whether an older release can be replaced by this one.
# What isn't installed is skipped and named at the end; nothing is installed here.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
skipped=()
skip() { echo "skipped: $*"; skipped+=("$*"); }
# Whether a subcommand of cargo is there.
has() { cargo "$1" --version >/dev/null 2>&1; }

target=$(cargo metadata --locked --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
out=$target/supply
mkdir -p "$out"

say "the public API, by what rustdoc says of it"
# Its JSON, and the badges of features, are for nightly. They are asked of whichever toolchain is at hand, by rustdoc
# alone: with the variable set for all of cargo, half of the dependencies would be built anew.
printf '#!/bin/sh\nRUSTC_BOOTSTRAP=1 exec "%s" "$@"\n' "${RUSTDOC:-rustdoc}" >"$out/rustdoc"
chmod +x "$out/rustdoc"
json() {
  local name=$1
  shift
  RUSTDOC=$out/rustdoc RUSTDOCFLAGS="-Z unstable-options --output-format json --cap-lints allow" \
    cargo doc --locked --quiet --no-deps "$@"
  mv "$target/doc/tower_auth.json" "$out/$name.json"
}
rm -rf "$out"/*.json "$out/html"
# Before 1.92 it makes no badges by itself.
minor=$(rustc --version | sed 's/^rustc 1\.\([0-9]*\).*/\1/')
if [ "$minor" -ge 92 ] && json none --no-default-features && json all --workspace --all-features; then
  # As docs.rs does it.
  RUSTDOC=$out/rustdoc RUSTDOCFLAGS="--cfg docsrs -D warnings" cargo doc --locked --quiet --no-deps --workspace --all-features
  cp -r "$target/doc/tower_auth" "$out/html"
  PUBLIC_API=$out cargo test --locked --workspace --all-features --test it -- documented::public --include-ignored
elif [ -n "${CI:-}" ]; then
  echo "this toolchain's rustdoc can't say: it takes one from 1.92 on" >&2
  exit 1
else
  skip "the public API: this toolchain's rustdoc can't say; it takes one from 1.92 on"
fi

say "unused dependencies"
if has machete; then cargo machete; else skip "cargo-machete (cargo install --locked cargo-machete)"; fi

say "licenses, sources, and one crate twice"
if has deny; then
  cargo deny --locked --all-features check bans licenses sources
  if compgen -G "${CARGO_HOME:-$HOME/.cargo}/advisory-dbs/*/.git" >/dev/null; then
    cargo deny --locked --all-features check advisories
  else
    skip "advisories: their database isn't here (cargo deny fetch db)"
  fi
else
  skip "cargo-deny (cargo install --locked cargo-deny)"
fi

say "what would break for users of the last release"
last=$(git describe --tags --abbrev=0 --match 'v*' 2>/dev/null || true)
if ! has semver-checks; then
  skip "cargo-semver-checks (cargo install --locked cargo-semver-checks)"
elif [ -z "$last" ]; then
  skip "cargo-semver-checks: there is no release to compare with"
else
  cargo semver-checks --all-features --baseline-rev "$last"
fi

say "done"
for what in "${skipped[@]}"; do echo "skipped: $what"; done
