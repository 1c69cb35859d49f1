"""The end of a command's process, without half a second for freeing what the system frees by itself."""

from __future__ import annotations

import atexit
import os
import sys
import threading


def leave(code: int) -> None:
    """End the process with an exit code, as the interpreter would, save that modules and objects are not taken apart.

    Threads are waited for, what is registered with `atexit` is called, and both streams are written out; with torch
    loaded the rest of an interpreter's end takes 0.3 to 0.5 s. Return where a stream cannot be written, for the
    interpreter to say so.
    """
    threading._shutdown()  # type: ignore[attr-defined]  # what it does first at its end, and multiprocessing does too
    atexit._run_exitfuncs()
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # as under pythonw
                stream.flush()
    except OSError:
        return
    os._exit(code)
