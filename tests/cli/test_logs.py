"""What the command shows of log lines, in a process of its own: Lightning changes logging when it is imported."""

import subprocess
import sys

import pytest

SCRIPT = """
import logging, warnings
from fullscale.cli.logs import status_on_stderr
with status_on_stderr():
    import lightning
    logging.getLogger("lightning.pytorch.utilities").info("a tip")
    logging.getLogger("lightning.fabric.utilities").warning("a hint")
    logging.getLogger("lightning.pytorch.utilities").error("a failure")
    logging.getLogger("fullscale.training").info("an epoch")
    logging.getLogger("fullscale.data").warning("a note")
    logging.getLogger("fullscale.data").debug("a detail")
assert logging.getLogger("fullscale").handlers == []
assert logging.getLogger().handlers == []
"""


@pytest.mark.slow
def test_our_lines_once_and_of_lightning_the_errors_alone() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.splitlines() == ["a failure", "an epoch", "a note"]
