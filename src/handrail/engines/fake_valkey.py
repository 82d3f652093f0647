"""A stand-in that speaks Valkey's protocol on a loopback port, for machines the real one has no binary for.

    python -m handrail.engines.fake_valkey PORT

A process of its own, so that it is started, killed and restarted like the real one and leaves our event loop alone.
It keeps nothing on disk: what it holds is a view, rebuilt from the journal.
"""

from __future__ import annotations

import sys

from fakeredis import TcpFakeServer

from handrail.engines.addresses import LOOPBACK


def main(port: int) -> None:
    """Serve until the process ends."""
    with TcpFakeServer((LOOPBACK, port), server_type="valkey") as server:
        server.daemon_threads = True
        server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]))
