#!/usr/bin/env bash
# Shows that the tests notice mistakes: runs them with one small change ("mutant") of the code at a time. Takes a random
# sample of the mutants of the three folders on which every request depends.
#
#   bash tests/mutants.sh [count] [seed]    150 mutants and seed 1, unless you say otherwise
#
# Each mutant takes a build and a run of the tests, so a sample takes hours. You may stop the script at any time: the
# next run with the same arguments skips the mutants that were caught. The results are in `target/mutants/mutants.out`,
# where `missed.txt` lists the mutants that no test noticed.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo mutants --version >/dev/null 2>&1 || {
  echo "cargo-mutants is missing; run cargo install --locked cargo-mutants" >&2
  exit 1
}
count=${1:-150} seed=${2:-1}

mutants=(cargo mutants --package tower-auth --file 'src/cache/**' --file 'src/layer/**' --file 'src/http_client/**')
# A regular expression for each mutant of the sample. cargo-mutants 27 also runs the few mutants that leave out a field
# of a struct, whatever the expressions are.
sample=$("${mutants[@]}" --list | python3 -c '
import random, re, sys
count, seed = map(int, sys.argv[1:])
mutants = sys.stdin.read().splitlines()
for name in random.Random(seed).sample(mutants, min(count, len(mutants))):
    print("^" + re.escape(name) + "$")
' "$count" "$seed")

out=${CARGO_TARGET_DIR:-target}/mutants
mkdir -p "$out"
args=()
while IFS= read -r name; do args+=(--re "$name"); done <<<"$sample"
# The tests of the documentation read the changed source, and would notice the change itself.
"${mutants[@]}" "${args[@]}" --iterate --output "$out" --all-features --test-package tower-auth-tests --no-times \
  -- --locked --test it -- --skip documented:: --skip fleet::processes
