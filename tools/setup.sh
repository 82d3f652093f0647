#!/bin/sh
# Prepares this checkout: finds or fetches uv, makes .venv, installs the locked requirements and the workspace.
# Usage: tools/setup.sh [runtime|dev]   (default dev). Running it twice is quick and changes nothing.
set -eu
cd "$(dirname "$0")/.."
want="${1:-dev}"

PY="${PYTHON:-}"
if [ -z "$PY" ]; then
    for candidate in python3.13 python3.12 python3.11 python3; do
        if command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
            PY="$candidate"
            break
        fi
    done
fi
if [ -z "$PY" ]; then
    echo "Expected Python 3.11, 3.12 or 3.13 on the PATH, but found none. Install one, or set PYTHON=/path/to/python." >&2
    exit 1
fi

# uv: the machine's own, else one that lives in .tools. `pip --target` works where pip is externally managed;
# a venv works where there is no pip outside of one.
if command -v uv >/dev/null 2>&1 && uv --version >/dev/null 2>&1; then
    UV=uv
elif [ -x .tools/uv/bin/uv ]; then
    UV=.tools/uv/bin/uv
else
    echo "uv is not here yet: installing it into .tools (nothing outside this folder changes)"
    mkdir -p .tools
    if "$PY" -m pip install --quiet --disable-pip-version-check --target .tools/uv uv 2>.tools/uv.log ||
        { "$PY" -m venv .tools/uv >>.tools/uv.log 2>&1 && .tools/uv/bin/python -m pip install --quiet uv >>.tools/uv.log 2>&1; }; then
        UV=.tools/uv/bin/uv
    else
        cat .tools/uv.log >&2
        echo "Expected to install uv with pip, but neither pip nor venv worked with $PY (see above). Install uv, or python3-venv, and run this again." >&2
        exit 1
    fi
fi

# A developer's environment holds the runtime's too, and stays one: what is new in a lock is installed for both.
[ "$want" = runtime ] && [ -f .venv/.handrail-dev ] && want=dev
lock="requirements/$want.txt"
# A Python built without profile-guided optimization, as pyenv builds them, runs everything a sixth slower: where the
# distribution's own is new enough, it runs the services.
RUN="$PY"
if [ -z "${PYTHON:-}" ] && ! "$PY" -c 'import sys, sysconfig; sys.exit("--enable-optimizations" not in (sysconfig.get_config_var("CONFIG_ARGS") or ""))' 2>/dev/null; then
    for candidate in /usr/bin/python3.13 /usr/bin/python3.12 /usr/bin/python3.11 /usr/bin/python3; do
        if [ -x "$candidate" ] && "$candidate" -c 'import sys, ssl, sqlite3; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
            RUN="$candidate"
            break
        fi
    done
fi

members="libs/contracts libs/engine libs/store libs/runtime libs/sdk simulators services/orchestrator services/agents services/notifier services/gateway ."
stamp=".venv/.handrail-$want"
sum="$(cat "$lock" pyproject.toml libs/*/pyproject.toml services/*/pyproject.toml simulators/pyproject.toml | cksum)"
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$sum" ]; then
    exit 0
fi
[ -x .venv/bin/python ] || "$UV" venv --quiet --python "$("$RUN" -c 'import sys; print(sys.executable)')" .venv
started=$(date +%s)
echo "Installing $lock into .venv"
"$UV" pip sync --quiet --python .venv/bin/python --require-hashes "$lock"
args=""
for m in $members; do args="$args -e ./$m"; done
# shellcheck disable=SC2086
"$UV" pip install --quiet --python .venv/bin/python --no-deps $args
rm -f .venv/.handrail-*
echo "$sum" >"$stamp"
echo "Ready in $(($(date +%s) - started)) s: .venv"
