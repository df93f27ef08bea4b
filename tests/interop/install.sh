#!/usr/bin/env bash
# Installs the servers that tests/interop runs against from PyPI and npm, in the versions pinned here, below the
# target folder. Does nothing if they are there.
set -euo pipefail
cd "$(dirname "$0")"
root=../..
target="${CARGO_TARGET_DIR:-target}"
[[ "$target" = /* ]] || target="$root/$target"

# Runs the rest unless what it reads, the first argument, is what it read the last time.
once() {
  local stamp sum
  stamp="$target/interop/$(basename "$1").stamp"
  sum=$(cat "$1" | sha256sum)
  [ "$(cat "$stamp" 2>/dev/null)" = "$sum" ] && return
  "${@:2}"
  echo "$sum" >"$stamp"
}

python() {
  rm -rf "$target/interop/venv"
  python3 -m venv "$target/interop/venv"
  "$target/interop/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps \
    --requirement requirements.txt
}

node() {
  mkdir -p "$target/interop/node"
  cp package.json package-lock.json "$target/interop/node"
  npm ci --prefix "$target/interop/node" --silent --no-audit --no-fund --ignore-scripts
}

mkdir -p "$target/interop"
once requirements.txt python
once package-lock.json node
