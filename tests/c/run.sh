#!/usr/bin/env bash
# Build the C core and its tests, and run them under sanitizers or under valgrind.
#
# Usage: run.sh [--valgrind] [substring of a test's name]
# CC is the compiler (default: cc). Works from any directory, leaves no files behind.
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
root=$(cd -- "$here/../.." && pwd)
compiler=${CC:-cc}
under=() # command prefix of the tests
if [[ ${1:-} == --valgrind ]]; then
    under=(valgrind --quiet --leak-check=full --error-exitcode=9 --fair-sched=yes)
    shift
fi
filter=${1:-}

sources=("$here"/*.c "$root"/csrc/*.c)
strict=("@$here/strict.txt" "@$here/faults.flags" "-I$root/csrc" -pthread)
undefined=(-fsanitize=address,undefined -fno-sanitize-recover=all -g -O1)
elsewhere=(-DFMUX_NO_EPOLL -DFMUX_NO_RDHUP) # as outside Linux
seconds=90 # time limit of one run, which takes about 10

build=$(mktemp -d)
trap 'rm -rf -- "$build"' EXIT

export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:allocator_may_return_null=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
export TSAN_OPTIONS=${TSAN_OPTIONS:-halt_on_error=1:second_deadlock_stack=1:allocator_may_return_null=1}

failures=0

# try TITLE NAME FLAG...: build the tests as NAME with the flags, and run them.
try() {
    local title=$1 program=$build/$2 log=$build/$2.log
    local run=(timeout "$seconds")
    shift 2
    echo "== $title"
    if ! "$compiler" "${strict[@]}" "$@" "${sources[@]}" -o "$program"; then
        failures=$((failures + 1))
        return
    fi
    # Older thread sanitizers do not start with many bits of address randomization.
    # No test has this name, so this checks only that the program starts.
    if ! "$program" 'no such test' >"$log" 2>&1; then
        run+=(setarch -R)
    fi
    local status=0
    "${run[@]}" "${under[@]}" "$program" "$filter" >"$log" 2>&1 || status=$?
    if ((status != 0)); then
        failures=$((failures + 1))
        grep -v ' ok$' "$log" || true
        echo "exit status $status"
    else
        tail -n 1 "$log"
    fi
}

if ((${#under[@]} > 0)); then
    try 'valgrind' valgrind -g -O1
    try 'without epoll: valgrind' valgrind_no_epoll -g -O1 "${elsewhere[@]}"
else
    try 'address and undefined behaviour' address "${undefined[@]}"
    try 'threads' thread -fsanitize=thread -g -O1
    try 'without epoll: address and undefined behaviour' no_epoll "${undefined[@]}" "${elsewhere[@]}"
fi

if ((failures != 0)); then
    echo "$failures of the runs failed"
    exit 1
fi
