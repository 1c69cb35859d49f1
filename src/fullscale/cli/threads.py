"""How many threads compute, and how they wait for each other, on a machine that does other work too.

The libraries that compute take both from the environment when they are loaded, so that this file comes before them.
"""

from __future__ import annotations

import os
import sys

from fullscale.text import counted
from fullscale.work.load import OtherWork
from fullscale.work.machine import cores, own_cores

LIMIT, SPINS = "OMP_NUM_THREADS", "GOMP_SPINCOUNT"
WAITING = "30000"
"""Rounds that a thread of GNU OpenMP stays awake when it waits for the others, a tenth of the library's own number.

Awake, it uses up the time that its core would give it afterwards: see docs/performance.md.
"""

_OTHERS = OtherWork()
"""Looks on from the start of the command, while its verbs are loaded."""


def limit_threads() -> None:
    """Take no more threads than a container may use, and none that waits awake for long.

    What the user's environment says of threads stays as it is.
    """
    if cores() < len(own_cores()):
        os.environ.setdefault(LIMIT, str(cores()))
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault(SPINS, WAITING)


def make_room() -> str | None:
    """Take no more threads than other work leaves room for, and say so; not where the user limits them.

    It is for work of seconds: what else goes on may be over by the time that longer work begins.
    """
    here, threads = cores(), _OTHERS.threads()
    if threads == here or LIMIT in os.environ or "torch" in sys.modules:
        return None
    os.environ[LIMIT] = str(threads)
    busy = f"{here - threads} of {counted(here, 'core')}"
    return f"other work keeps {busy} busy, so this takes {counted(threads, 'thread')}; set {LIMIT} for another number"
