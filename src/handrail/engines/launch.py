"""Turns itself into an engine process that dies with its parent. Run as a script; standard library only.

    python -I -S launch.py PARENT_PID DEATH_SIGNAL UID GID SEARCH PROGRAM [ARGUMENT ...]

UID and GID of -1 keep the caller's. SEARCH=1 lets a process that gives up root still walk through directories closed to
it (a data directory below a private home), so that nobody's permissions have to be loosened. A script of its own
rather than a `preexec_fn`, because code between fork and exec deadlocks in a process that has threads.
"""

from __future__ import annotations

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_SET_SECUREBITS = 28
_SECBIT_NO_SETUID_FIXUP = 1 << 2
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAP_DAC_OVERRIDE = 1
_CAP_DAC_READ_SEARCH = 2
_CAPABILITY_VERSION_3 = 0x20080522


def main(argv: list[str]) -> None:
    parent, death_signal, uid, gid, search = (int(word) for word in argv[:5])
    command = argv[5:]
    linux = sys.platform.startswith("linux")
    libc = ctypes.CDLL(None, use_errno=True) if linux else None
    if uid >= 0:
        # Before the change of user: the interpreter's own files may be out of reach after it.
        capability = _search_capability() if libc is not None and search else None
        if libc is not None and capability is not None:
            libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
            # Without it access(2), by which initdb looks for its programs, ignores the capability (capabilities(7)).
            libc.prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP, 0, 0, 0)
        os.setgroups([gid])
        os.setgid(gid)
        os.setuid(uid)
        if libc is not None and capability is not None:
            _keep(libc, capability)
    # After the change of user: the kernel forgets the death signal when credentials change.
    if libc is not None:
        libc.prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the process that asked for this engine is gone")
    os.execv(command[0], command)


def _keep(libc: ctypes.CDLL, capability: int) -> None:
    mask = 1 << capability
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0)
    if libc.capset(ctypes.byref(header), ctypes.byref(sets)) != 0:
        sys.exit("the privileges of root could not be given up")  # with the bit above they survive the change of user
    libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability, 0, 0)


def _search_capability() -> int | None:
    """The smallest capability we hold that opens closed directories, if any."""
    with open("/proc/self/status", "rb") as status:
        permitted = next((int(line.split()[1], 16) for line in status if line.startswith(b"CapPrm:")), 0)
    return next((c for c in (_CAP_DAC_READ_SEARCH, _CAP_DAC_OVERRIDE) if permitted >> c & 1), None)


if __name__ == "__main__":
    main(sys.argv[1:])
