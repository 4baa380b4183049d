#!/usr/bin/env bash
# One target, guided by coverage: fuzz/coverage.sh TARGET [SECONDS]. What it finds new is kept under
# target/fuzz/TARGET; an input that fails is written to the current directory.
#
# Only the workspace's own crates are instrumented, by this script as their compiler's wrapper, so
# the dependencies are those that are built already, and the stable compiler will do.
set -euo pipefail
if [ "${1:-}" = as-wrapper ] || [[ "${1:-}" == *rustc ]]; then
  flags=(-Cpasses=sancov-module -Ccodegen-units=1)
  for option in level=4 inline-8bit-counters pc-table trace-compares; do
    flags+=("-Cllvm-args=-sanitizer-coverage-$option")
  done
  case " $* " in
    # Build scripts and macros run without libFuzzer.
    *" build_script_build "* | *" proc-macro "*) exec "$@" ;;
    *" --crate-name "*) exec "$@" "${flags[@]}" ;;
    *) exec "$@" ;;
  esac
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."
target=$1 seconds=${2:-300}
found="${CARGO_TARGET_DIR:-target}/fuzz/$target"
mkdir -p "$found" "fuzz/corpus/$target"
export RUSTC_WORKSPACE_WRAPPER="$PWD/fuzz/coverage.sh"
"${CARGO:-cargo}" build --quiet --package fuzz --features coverage --bin guided
DUET_FUZZ_TARGET=$target nice -n 19 "${CARGO_TARGET_DIR:-target}/debug/guided" \
  -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=4096 \
  "$found" "fuzz/corpus/$target"
