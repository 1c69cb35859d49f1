"""The command leaves cores to other work and to other containers, and the user's environment has the last word."""

import os
import subprocess
import sys

import pytest

from tests.work.test_load import busy_core

linux = pytest.mark.skipif(sys.platform != "linux", reason="of Linux")


def told(code: str, **environment: str) -> str:
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    command = [sys.executable, "-c", f"import os, time; from fullscale.cli.threads import *; {code}"]
    done = subprocess.run(command, env=plain | environment, capture_output=True, text=True, timeout=60)
    assert not done.stderr
    return done.stdout.strip()


LIMITED = "limit_threads(); print(os.environ.get('OMP_NUM_THREADS'), os.environ.get('GOMP_SPINCOUNT'))"


def test_threads_wait_asleep_unless_the_user_says_otherwise() -> None:
    assert told(LIMITED) == "None 30000"
    assert told(LIMITED, GOMP_SPINCOUNT="7") == "None 7"
    assert told(LIMITED, OMP_WAIT_POLICY="active") == "None None"


def test_a_container_with_less_than_the_cores_computes_with_as_many_threads() -> None:
    less = (
        f"import fullscale.cli.threads as own; own.own_cores = lambda: set(range(64)); own.cores = lambda: 3; {LIMITED}"
    )
    assert told(less) == "3 30000"
    assert told(less, OMP_NUM_THREADS="5") == "5 30000"


@linux
@pytest.mark.skipif(len(os.sched_getaffinity(0)) != 2, reason="written for two cores")
def test_beside_a_busy_core_one_thread_computes() -> None:
    asked = "time.sleep(0.5); print(make_room()); print(os.environ.get('OMP_NUM_THREADS'))"
    with busy_core(max(os.sched_getaffinity(0))):
        note, threads = told(asked).splitlines()
        assert told(asked, OMP_NUM_THREADS="2") == "None\n2"
        assert told(f"import torch; {asked}") == "None\nNone", "loaded already"
    assert note == "other work keeps 1 of 2 cores busy, so this takes 1 thread; set OMP_NUM_THREADS for another number"
    assert threads == "1"
