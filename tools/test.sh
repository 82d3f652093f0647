#!/bin/sh
# Runs every test that is no long proof, as two halves at once: most of them wait for engines, browsers and processes, not for
# a core. Each half has engines of its own. Both are always run to their end and shown; one failure is enough to fail.
set -u
cd "$(dirname "$0")/.."

half() { .venv/bin/python -m pytest -m "not torture" -q -p no:cacheprovider "$@"; }

log="$(mktemp)"
half tests/conformance tests/integration tests/unit/engine >"$log" 2>&1 &
other=$!
trap 'kill "$other" 2>/dev/null; rm -f "$log"' EXIT
trap 'exit 130' INT TERM

echo "== Half 1: tests without conformance, integration and the rules, which run beside it and are shown when they are through"
half tests --ignore tests/conformance --ignore tests/integration --ignore tests/unit/engine
first=$?
wait "$other"
second=$?
echo "== Half 2: conformance, integration and the rules"
cat "$log"
echo "== Half 1 ended with $first, half 2 with $second (0: all passed)"
[ "$first" -eq 0 ] && [ "$second" -eq 0 ]
