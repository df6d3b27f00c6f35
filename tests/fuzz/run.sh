#!/usr/bin/env bash
# Fuzz the C core.
#
# Usage: run.sh [SECONDS]          replay the corpus, then search for new inputs for
#                                  this time; needs clang with libFuzzer. The default
#                                  is 20 seconds with a fixed seed
#        run.sh --replay [FILE]... replay files (default: the corpus); any compiler
#        run.sh --merge            minimize the corpus together with all inputs found,
#                                  with the same coverage
# CC is the compiler of --replay (default: cc). Works from any directory. Failing inputs
# go to tests/fuzz/failures, new ones to tests/fuzz/found; later runs start from those,
# too.
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
root=$(cd -- "$here/../.." && pwd)

flags=("@$root/tests/c/strict.txt" "@$root/tests/c/faults.flags" "-I$root/csrc" "-I$root/tests/c" -pthread -g -O1
    -fno-sanitize-recover=all)
sources=("$here"/{fuzz_core,world,mux,waits,forks,lists,sets}.c "$root/tests/c/faults.c" "$root"/csrc/*.c)

build=$(mktemp -d)
trap 'rm -rf -- "$build"' EXIT

export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:allocator_may_return_null=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}

# fuzzer NAME FLAG...: build with libFuzzer.
fuzzer() {
    local name=$1
    shift
    clang "${flags[@]}" -fsanitize=fuzzer,address,undefined "$@" "${sources[@]}" -o "$build/$name"
}

# replay TITLE FLAG... -- FILE...: build without libFuzzer, and replay the files.
replay() {
    local title=$1 options=()
    shift
    while [[ $1 != -- ]]; do
        options+=("$1")
        shift
    done
    shift
    echo "== replay, $title"
    "${CC:-cc}" "${flags[@]}" -fsanitize=address,undefined "${options[@]}" "${sources[@]}" "$here/replay.c" \
        -o "$build/replay"
    if ! "$build/replay" "$@" 2>"$build/log"; then
        tail -n 60 "$build/log"
        echo "FAILED: the last input above"
        exit 1
    fi
}

# fuzz NAME SECONDS: search for new inputs. Seed 0 means a random one.
fuzz() {
    local name=$1 seconds=$2 status=0 log=$build/$1.log
    echo "== $name, $seconds s"
    mkdir -p "$here/found" "$here/failures"
    "$build/$name" -seed="$seed" -max_total_time="$seconds" -timeout=10 -max_len=400 -print_final_stats=1 \
        -artifact_prefix="$here/failures/" "$here/found" "$here/corpus" >"$log" 2>&1 || status=$?
    local executions coverage
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    coverage=$(grep -o 'cov: [0-9]* ft: [0-9]*' "$log" | tail -n 1 | sed 's/cov: /edges: /; s/ft: /features: /' || true)
    echo "executions: ${executions:-?} $coverage"
    if ((status != 0)); then
        grep -v -E '^#[0-9]+' "$log" | tail -n 80
        echo "FAILED. To reproduce: tests/fuzz/run.sh --replay <the file named above>"
        exit 1
    fi
}

case ${1:-20} in
--replay)
    shift
    if (($# == 0)); then
        set -- "$here/corpus"
    fi
    replay 'with epoll' -- "$@"
    replay 'without epoll' -DFMUX_NO_EPOLL -- "$@"
    ;;
--merge)
    fuzzer epoll
    mkdir "$build/corpus"
    "$build/epoll" -set_cover_merge=1 -use_counters=0 -max_len=400 "$build/corpus" "$here/corpus" \
        $([[ -d $here/found ]] && echo "$here/found") 2>&1 | tail -n 1
    rm -rf "$here/corpus" "$here/found"
    cp -r "$build/corpus" "$here/corpus"
    echo "$(find "$here/corpus" -type f | wc -l) files, $(cat "$here"/corpus/* | wc -c) bytes"
    ;;
*)
    seconds=${1:-20}
    seed=$(($# == 0))
    fuzzer with-epoll &
    fuzzer without-epoll -DFMUX_NO_EPOLL
    wait $!
    fuzz with-epoll $((seconds - seconds / 4))
    fuzz without-epoll $((seconds / 4))
    ;;
esac
