#!/usr/bin/env bash
# Counts the instructions of a request with a cached token, and compares them with instructions.txt. Unlike time, the
# count is the same on a noisy machine. The counts don't include building the request or the client below the layer.
#
#   bash benches/peers/drift.sh            measures and compares; exits with 1 if a row differs by more than 3 %
#   bash benches/peers/drift.sh --accept   measures, and makes the result the new baseline
#
# Why 3 %: two runs of the same program differ by less than one instruction per request. After a change elsewhere in the
# crate, the compiler may inline different functions. This changes the count a little. For this layer without replay, 3
# % is 16 instructions: less than one lookup in a header map. So a greater difference is a real change.
#
# Needs valgrind, on x86_64 Linux. The counts also depend on the C library, because each one copies and allocates
# differently.
set -euo pipefail
cd "$(dirname "$0")"

baseline=instructions.txt
tolerance=3
few=1000
many=5000

CARGO_TARGET_DIR=target cargo build --release --quiet --no-default-features --bin instructions
program=target/release/instructions

# Counts all instructions of a run of $1 with $2 requests.
count() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$program" "$1" "$2" 2>&1 >/dev/null |
        awk '/Collected/ { print $NF }'
}

# Counts the instructions of one request as the difference of two runs, so that startup and shutdown cancel out.
each() {
    local a b
    a=$(count "$1" "$few")
    b=$(count "$1" "$many")
    awk -v a="$a" -v b="$b" -v n=$((many - few)) 'BEGIN { printf "%.1f", (b - a) / n }'
}

rustc=$(rustc --version)
measured="# instructions a request; $rustc"
bare=$(each bare)
for way in $("$program"); do
    case $way in
    bare) continue ;;
    token) net=$(each "$way") ;;
    *) net=$(awk -v all="$(each "$way")" -v bare="$bare" 'BEGIN { printf "%.1f", all - bare }') ;;
    esac
    measured+=$'\n'"$way"$'\t'"$net"
done

if [[ ${1-} == --accept ]]; then
    printf '%s\n' "$measured" >"$baseline"
    cat "$baseline"
    exit
fi

grep -qxF "# instructions a request; $rustc" "$baseline" ||
    echo "the baseline is from another compiler than $rustc: $(head -n 1 "$baseline")" >&2

awk -F '\t' -v tolerance="$tolerance" '
    /^#/ { next }
    NR == FNR { was[$1] = $2; next }
    !($1 in was) { printf "%-14s %8.1f  new\n", $1, $2; off = 1; next }
    {
        drift = 100 * ($2 - was[$1]) / was[$1]
        far = drift > tolerance || drift < -tolerance
        printf "%-14s %8.1f  was %8.1f  %+.1f %%%s\n", $1, $2, was[$1], drift, far ? "  <-" : ""
        off = off || far
        delete was[$1]
    }
    END {
        for (way in was) { printf "%-14s is gone\n", way; off = 1 }
        exit off
    }
' "$baseline" <(printf '%s\n' "$measured")
