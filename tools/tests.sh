#!/bin/sh
# Runs all tests of one kind as two halves at once: most of them wait for engines, browsers and processes, not for a core. Each
# half has engines of its own. Both are always run to their end and shown; one failure is enough to fail.
#   tools/tests.sh test      every test that is no long proof
#   tools/tests.sh torture   the long proofs
set -u
cd "$(dirname "$0")/.."

case "${1:-}" in
test)
    only="not torture"; limit=
    beside="tests/conformance tests/integration tests/unit/engine"
    one="tests without conformance, integration and the rules"; two="conformance, integration and the rules" ;;
torture)
    only="torture"; limit="--timeout ${2:-2400}"
    beside="tests/torture/sim tests/torture/properties"
    one="kills, races, crowds, browsers and hostile input"; two="simulation and rules in many worlds" ;;
*)
    echo "Expected test or torture, as in: tools/tests.sh test" >&2
    exit 2 ;;
esac

# shellcheck disable=SC2086  # words, not one argument
half() { .venv/bin/python -m pytest -m "$only" -q -p no:cacheprovider $limit "$@"; }

others=
for path in $beside; do others="$others --ignore $path"; done
log="$(mktemp)"
# shellcheck disable=SC2086
half $beside >"$log" 2>&1 &
other=$!
trap 'kill "$other" 2>/dev/null; rm -f "$log"' EXIT
trap 'exit 130' INT TERM

echo "== Half 1: $one; half 2 ($two) runs beside it and is shown when both are through"
# shellcheck disable=SC2086
half tests $others
first=$?
wait "$other"
second=$?
echo "== Half 2: $two"
cat "$log"
echo "== Half 1 ended with $first, half 2 with $second (0: all passed)"
[ "$first" -eq 0 ] && [ "$second" -eq 0 ]
