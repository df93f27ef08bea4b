#!/usr/bin/env bash
# Installs the servers of tests/interop that come from PyPI and npm. Installs the pinned versions, below the target
# folder. Does nothing if an earlier run installed the same list, with the same program and into the same folder.
#
#   bash tests/interop/install.sh             installs them
#   bash tests/interop/install.sh --missing   prints the lists that it would install from, on one line
set -euo pipefail
cd "$(dirname "$0")"
only_missing=${1-}
place=$(cd ../.. && mkdir -p "${CARGO_TARGET_DIR:-target}/interop" && cd "${CARGO_TARGET_DIR:-target}/interop" && pwd)

# Runs the command that follows the first two arguments. Does nothing if an earlier run has run it. The stamp includes
# the folder and the program's version. A virtual environment depends on its path and on its Python.
once() {
  local list=$1 program=$2 stamp wanted
  stamp=$place/$list.stamp
  wanted=$(cat "$list" && { "$program" --version 2>/dev/null || echo "no $program"; } && echo "$place")
  [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ] || return 0
  if [ -n "$only_missing" ]; then
    missing+=("$list")
    return
  fi
  echo "installing what $list lists" >&2
  "${@:3}"
  echo "$wanted" >"$stamp"
}

python() {
  rm -rf "$place/venv"
  python3 -m venv "$place/venv"
  "$place/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --requirement requirements.txt
}

node() {
  mkdir -p "$place/node"
  cp package.json package-lock.json "$place/node"
  npm ci --prefix "$place/node" --silent --no-audit --no-fund --ignore-scripts
}

missing=()
once requirements.txt python3 python
once package-lock.json npm node
[ -z "$only_missing" ] || echo "${missing[*]}"
