#!/bin/sh
# Writes requirements/*.txt: hashed, for every platform and Python we support, without naming any host.
set -eu
cd "$(dirname "$0")/.."
UV=uv
command -v uv >/dev/null 2>&1 || UV=.tools/uv/bin/uv
local_names="handrail handrail-contracts handrail-engine handrail-store handrail-runtime handrail-sdk handrail-orchestrator handrail-agents handrail-notifier handrail-gateway handrail-simulators"
skip=""
for n in $local_names; do skip="$skip --no-emit-package $n"; done
# shellcheck disable=SC2086
"$UV" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
    --custom-compile-command tools/lock.sh $skip pyproject.toml -o requirements/runtime.txt
# shellcheck disable=SC2086
"$UV" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
    --custom-compile-command tools/lock.sh $skip --group dev pyproject.toml -o requirements/dev.txt
# What the images have besides: the extra `ai`, so that an endpoint is a matter of two settings there too.
# shellcheck disable=SC2086
"$UV" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
    --custom-compile-command tools/lock.sh $skip --extra ai --constraints requirements/dev.txt pyproject.toml -o requirements/image.txt
