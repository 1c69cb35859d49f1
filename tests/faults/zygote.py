"""A process that has loaded everything and starts commands as copies of itself: a kill falls into their work.

Started afresh, a command spends most of its time on loading torch, and so would most kills.
"""

import gc
import json
import os
import resource
import signal
import sys
from typing import Any

MODULES = (
    *("fullscale.training.run", "fullscale.compare.run", "fullscale.compare.results", "fullscale.compare.figure"),
    *("fullscale.inference.batch", "fullscale.inference.predictor", "fullscale.reporting.html", "fullscale.cli.app"),
    *("fullscale.reporting.overlay", "fullscale.reporting.curves", "fullscale.scoring.evaluate", "scipy.ndimage"),
    *("monai.transforms", "fullscale.inference.export.model", "matplotlib.figure"),
)


def run(request: dict[str, Any]) -> None:
    """Become the command."""
    from fullscale.cli import main

    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what it puts in the background deaf to it
    for stream, number in (("stdout", 1), ("stderr", 2)):
        os.dup2(os.open(request[stream], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.environ.update(request["environment"])
    if request["files"]:
        resource.setrlimit(resource.RLIMIT_NOFILE, (request["files"], request["files"]))
    sys.argv = ["fullscale", *request["arguments"]]
    try:
        main()
    finally:
        gc.unfreeze()  # or what is bound to C++ would be reported as leaked


def serve() -> None:
    """Start what each line of standard input asks for, or wait for what was started; answer in a line."""
    for module in MODULES:
        __import__(module)
    gc.freeze()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        request = json.loads(line)
        if "end" in request:
            break
        if "wait" in request:
            answer = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
        else:
            answer = os.fork()
            if answer == 0:
                run(request)
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve()
