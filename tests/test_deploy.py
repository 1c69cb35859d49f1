"""Templates of deploy/: they parse, and what they start is a command with these options."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.conftest import Command

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"


@pytest.mark.parametrize("script", sorted(DEPLOY.glob("*.sh")), ids=lambda p: p.name)
def test_a_script_parses_and_starts_a_command(script: Path, tmp_path: Path) -> None:
    """With a `fullscale` that only says what it was given."""
    (tmp_path / "fullscale").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "fullscale").chmod(0o755)
    environment = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "8"}
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    command = ["bash", script, "first place", "second", "third"]
    done = subprocess.run(
        command, env=os.environ | environment | {"PATH": path}, capture_output=True, text=True, check=True
    )
    wanted = {
        "slurm-predict.sh": "predict first place second -o third --shard 3/8 --jobs 1",
        "slurm-train.sh": "train first place -o second --fold 3 third",
    }
    assert done.stdout.strip() == wanted[script.name]


def test_the_shares_of_the_job_are_those_of_its_command() -> None:
    job = yaml.safe_load((DEPLOY / "kubernetes-predict.yaml").read_text())
    [container] = job["spec"]["template"]["spec"]["containers"]
    shares = re.search(r"--shard \$\(\(JOB_COMPLETION_INDEX \+ 1\)\)/(\d+)$", container["args"][0])
    assert shares is not None
    assert int(shares[1]) == job["spec"]["completions"]
    assert job["spec"]["completionMode"] == "Indexed"


def test_the_workers_of_compose_know_their_scheduler() -> None:
    services = yaml.safe_load((DEPLOY / "docker-compose.yaml").read_text())["services"]
    assert "tcp://scheduler:8786" in services["worker"]["command"]
    assert services["scheduler"]["command"].endswith("--port 8786")


def test_every_option_of_the_templates_exists(fullscale: Command) -> None:
    for verb, options in {"predict": ["--shard", "--dask", "--jobs"], "train": ["--fold"]}.items():
        text = fullscale(verb, "--help", COLUMNS="200").stdout
        assert all(option in text for option in options)
