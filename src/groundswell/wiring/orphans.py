"""A child that must not outlive its parent: a worker left behind would go on holding the port.

Linux tells it by a signal (prctl(2), PR_SET_PDEATHSIG). Elsewhere a supervisor has to clean up.
"""

from __future__ import annotations

import ctypes
import signal
import sys
from typing import Final

__all__ = ["end_with_parent"]

_PR_SET_PDEATHSIG: Final = 1


def end_with_parent() -> None:
    """Ask the kernel for SIGTERM when the parent dies."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
