#!/usr/bin/env bash
# Fuzzes the text that comes from other programs: runs the targets in `tests/fuzz/targets`, one after the other.
#
#   bash tests/fuzz/run.sh [minutes] [target…]    10 minutes for each target, unless you say otherwise
#   bash tests/fuzz/run.sh --keep [target…]       adds to the kept inputs the smallest that reach more code
#
# Each run starts with the inputs in `tests/fuzz/corpus`, and with those that earlier runs found below the target
# folder. An input that makes a target fail is kept in `tests/fuzz/artifacts`. To run this input again:
#
#   cargo fuzz run --fuzz-dir tests/fuzz --sanitizer none TARGET tests/fuzz/artifacts/TARGET/FILE
set -euo pipefail
cd "$(dirname "$0")/../.."

cargo fuzz --version >/dev/null 2>&1 || {
  echo "cargo-fuzz is missing; run cargo install --locked cargo-fuzz" >&2
  exit 1
}
case "${1-}" in
--keep) minutes= ;;
*[!0-9]* | 0*) echo "usage: bash tests/fuzz/run.sh [minutes | --keep] [target…]" >&2; exit 2 ;;
*) minutes=${1:-10} ;;
esac
targets=("${@:2}")
[ ${#targets[@]} != 0 ] || mapfile -t targets < <(cargo fuzz list --fuzz-dir tests/fuzz)

out=${CARGO_TARGET_DIR:-target}/fuzz
# The crate has no unsafe code, so no sanitizer is needed. Without one, any toolchain will do.
run() { cargo fuzz run --fuzz-dir tests/fuzz --target-dir "$out" --sanitizer none "$@"; }
# How many inputs are kept for each target, and how long these inputs are at most.
most=40 longest=4096

if [ -z "$minutes" ]; then
  for target in "${targets[@]}"; do
    kept=tests/fuzz/corpus/$target merged=$out/merged/$target
    rm -rf "$merged"
    mkdir -p "$out/corpus/$target" "$(dirname "$merged")"
    cp -r "$kept" "$merged"
    run "$target" "$merged" "$out/corpus/$target" -- -set_cover_merge=1 -max_len=$longest
    for file in "$kept"/*; do rm "$merged/${file##*/}"; done
    room=$((most - $(find "$kept" -type f | wc -l)))
    [ $room -le 0 ] ||
      find "$merged" -type f -printf '%s %p\n' | sort -n | sed -n "1,${room}s/^[0-9]* //p" | xargs -r cp -t "$kept"
  done
  exit
fi

failed=()
for target in "${targets[@]}"; do
  corpus=$out/corpus/$target log=$out/$target.log
  mkdir -p "$corpus"
  # An input that takes 5 s fails: nothing may take longer than linear time.
  run "$target" "$corpus" "tests/fuzz/corpus/$target" -- \
    -max_total_time=$((minutes * 60)) -timeout=5 -max_len=$((2 * longest)) -rss_limit_mb=1024 >"$log" 2>&1 ||
    failed+=("$target")
  # The last status line says how many edges and features are covered, and how many inputs reach them.
  printf '%-24s %s\n' "$target" "$(grep -oE '(DONE|pulse|NEW|REDUCE|RELOAD|INITED) +cov: [0-9]+ ft: [0-9]+ corp: [0-9]+' "$log" | tail -1)" \
    "" "$(grep -E '^Done |panicked at|^SUMMARY|^error' "$log" | head -3)"
done
if [ ${#failed[@]} != 0 ]; then
  echo "failed: ${failed[*]}; the logs are $out/TARGET.log" >&2
  exit 1
fi
