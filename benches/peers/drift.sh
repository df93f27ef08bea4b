#!/usr/bin/env bash
# How many instructions a request takes with a token in hand, beside what instructions.txt says. Instructions are
# the same on a noisy machine. Without the client below and the making of the request.
#
#   bash benches/peers/drift.sh            measures and compares; ends with 1 if a row is off by more than 3 %
#   bash benches/peers/drift.sh --accept   what was measured is the baseline from now on
#
# Why 3 %: the same program counts the same each time, to a fraction of an instruction, but a change elsewhere in the
# crate can have the compiler inline this and not that, which is worth some instructions. 3 % of this layer without replay
# are 25 of them: less than one look into a header map, so whoever adds as many has added something.
#
# Needs valgrind, on x86_64 Linux. The C library copies and allocates, so another one moves the rows, too.
set -euo pipefail
cd "$(dirname "$0")"

baseline=instructions.txt
tolerance=3
few=1000
many=5000

CARGO_TARGET_DIR=target cargo build --release --quiet --no-default-features --bin instructions
program=target/release/instructions

# All instructions of a run of $1 with $2 requests.
count() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$program" "$1" "$2" 2>&1 >/dev/null |
        awk '/Collected/ { print $NF }'
}

# Instructions of one request: what so many more of them take, so that start and end cancel out.
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
    echo "the baseline is of another compiler than $rustc: $(head -n 1 "$baseline")" >&2

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
