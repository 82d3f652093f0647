#!/bin/sh
# Installs each member of the workspace into an environment of its own, with only what it declares, and imports all of it.
# A shared environment would hide a dependency that is used but not declared.
set -eu
cd "$(dirname "$0")/.."
UV=uv
command -v uv >/dev/null 2>&1 || UV=.tools/uv/bin/uv
tmp="$(mktemp -d)"
trap 'rm -rf "$tmp"' EXIT
for member in libs/contracts libs/engine libs/store libs/runtime libs/sdk simulators services/orchestrator services/agents services/notifier services/gateway .; do
    "$UV" venv --quiet --python .venv/bin/python "$tmp/venv"
    # The lock is a constraint, so that this finds missing declarations and not new releases.
    sed -e '/--hash=/d' -e 's/ *\\$//' -e '/^ *#/d' requirements/runtime.txt >"$tmp/constraints.txt"
    "$UV" pip install --quiet --python "$tmp/venv/bin/python" -c "$tmp/constraints.txt" "./$member"
    "$tmp/venv/bin/python" - "$member" <<'PY'
import importlib, pathlib, pkgutil, sys
member = pathlib.Path(sys.argv[1])
name = next(p.name for p in (member / "src").iterdir() if (p / "__init__.py").exists())
package = importlib.import_module(name)
count = 0
for found in pkgutil.walk_packages(package.__path__, name + "."):
    if found.name.endswith("__main__") or ".migrations" in found.name or found.name.endswith("faust_app") or ".adapters." in found.name and member.name == "sdk":
        continue
    importlib.import_module(found.name)
    count += 1
print(f"{sys.argv[1]}: {count + 1} modules import with what is declared")
PY
    rm -rf "$tmp/venv"
done
