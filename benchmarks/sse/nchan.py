"""nginx with the nchan module, as a peer: from the PATH, else unpacked from Debian's packages into the run's folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

MODULE = "ngx_nchan_module.so"
DEBIANS_FOLDER = Path("/var/lib/nginx")
"""Its binary wants to make this one's children at start, whatever the configuration says."""
PACKAGES = ("nginx", "libnginx-mod-nchan", "libhiredis0.14")
_CONFIG = """
load_module {module};
{user}daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log warn;
events {{ worker_connections 16000; }}
http {{
  access_log off; nchan_max_reserved_memory 512M;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    client_body_temp_path {folder}/b;
    listen 127.0.0.1:{port} backlog=8192; keepalive_requests 10000000;
    location = /pub {{ nchan_publisher; nchan_channel_id bench; nchan_message_buffer_length 100; }}
    location = /sse {{ nchan_subscriber eventsource; nchan_channel_id bench; nchan_subscriber_first_message newest; }}
  }}
}}
"""


def start(folder: Path, port: int) -> subprocess.Popen[bytes] | str:
    """A running nginx, or why there is none."""
    root = folder / "nginx"
    root.mkdir(exist_ok=True)
    found = _installed() or _unpacked(root)
    if isinstance(found, str):
        return found
    binary, module = found
    (root / "nginx.conf").write_text(
        _CONFIG.format(module=module, folder=root, port=port, user="user root; " if not os.getuid() else "")
    )
    with contextlib.suppress(OSError):
        DEBIANS_FOLDER.mkdir(parents=True, exist_ok=True)
    libraries = {str(path.parent) for path in root.rglob("libhiredis.so*")}
    environment = {**os.environ, "LD_LIBRARY_PATH": ":".join(libraries)}
    return subprocess.Popen([str(binary), "-c", str(root / "nginx.conf"), "-p", str(root)], env=environment)


def _installed() -> tuple[Path, Path] | None:
    binary, module = shutil.which("nginx"), Path("/usr/lib/nginx/modules") / MODULE
    return (Path(binary), module) if binary is not None and module.exists() else None


def _unpacked(root: Path) -> tuple[Path, Path] | str:
    if not list(root.rglob(MODULE)):
        missing = [name for name in ("apt-get", "dpkg") if shutil.which(name) is None]
        if missing:
            return "nginx with nchan is not installed, and this is not Debian: apt-get install nginx libnginx-mod-nchan"
        quiet = {"cwd": root, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "check": False}
        subprocess.run(["apt-get", "download", *PACKAGES], **quiet)  # pyright: ignore[reportArgumentType]  # as above
        for package in root.glob("*.deb"):
            subprocess.run(["dpkg", "-x", package.name, "unpacked"], **quiet)  # pyright: ignore[reportArgumentType]
    binary, module = next(root.rglob("sbin/nginx"), None), next(root.rglob(MODULE), None)
    if binary is None or module is None:
        return f"the packages {', '.join(PACKAGES)} could not be had: apt-get install nginx libnginx-mod-nchan"
    return binary, module
