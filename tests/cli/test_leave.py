"""A command's process ends without being taken apart, and nothing that it owes is lost by that."""

import os
import subprocess
import sys
import textwrap


def process(script: str, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    code = "from fullscale.cli.leave import leave\n" + textwrap.dedent(script)
    environment = os.environ | {"PYTHONUNBUFFERED": ""}  # with it, nothing is left to be written at the end
    command = [sys.executable, "-c", code]
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=60, env=environment)


def test_it_ends_with_the_code_and_with_all_that_was_written():
    ended = process(
        """
        import sys
        print("a mask", end="")
        sys.stderr.write("a note")
        leave(4)
        print("never")
        """
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (4, "a mask", "a note")


def test_threads_end_their_work_and_what_is_registered_is_called():
    ended = process(
        r"""
        import atexit, sys, threading, time
        from concurrent.futures import ThreadPoolExecutor

        def write(text):
            time.sleep(0.2)
            sys.stdout.write(text + "\n")

        atexit.register(print, "registered first, called last")
        atexit.register(print, "registered")
        threading.Thread(target=write, args=("thread",)).start()
        ThreadPoolExecutor(1).submit(write, "of a pool")
        leave(0)
        """
    )
    assert ended.stderr == ""
    assert sorted(ended.stdout.splitlines()[:2]) == ["of a pool", "thread"]
    assert ended.stdout.splitlines()[2:] == ["registered", "registered first, called last"]


def test_no_process_of_a_pool_is_left_behind():
    ended = process(
        """
        import multiprocessing, os
        pool = multiprocessing.get_context("fork").Pool(1)
        print(pool.apply(os.getpid))
        leave(0)
        """
    )
    assert ended.returncode == 0
    assert not is_alive(int(ended.stdout))


def test_output_that_nobody_takes_is_told_by_the_interpreter():
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ended = process("print('lost')\nleave(0)\n", stdout=writer)
    finally:
        os.close(writer)
    assert ended.returncode == 120  # what Python ends with where a stream cannot be flushed
    assert "BrokenPipeError" in ended.stderr


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
