"""Templates of deploy/: they parse, and what they start is a command with these options."""

import json
import os
import re
import subprocess
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from fullscale.cli.stop import PREEMPTED, TERMINATED
from fullscale.serve.pacs.rules import read_rules
from tests.conftest import Command
from tests.words import read_by_the_command

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"


def run_script(script: Path, folder: Path, **programs: str) -> subprocess.CompletedProcess[str]:
    """Run a script with programs that only say what they were given; `srun` runs what follows its options."""
    said = {"fullscale": 'echo "$@"', "scontrol": 'echo scontrol "$@"'}
    started = {"srun": 'while [ "${1#-}" != "$1" ]; do shift; done; exec "$@"'}
    for name, text in (said | started | programs).items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    environment = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "8", "SLURM_JOB_ID": "77"}
    environment["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"
    command = ["bash", script, "first place", "second", "third"]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("script", sorted(DEPLOY.glob("*.sh")), ids=lambda p: p.name)
def test_a_script_parses_and_starts_a_command(script: Path, tmp_path: Path) -> None:
    done = run_script(script, tmp_path)
    assert done.returncode == 0, done.stderr
    wanted = {
        "slurm-predict.sh": "predict first place second -o third --shard 3/8 --jobs 1",
        "slurm-train.sh": "train first place -o second --fold 3 third",
    }
    assert done.stdout.strip() == wanted[script.name]


@pytest.mark.parametrize(("code", "queued"), [(PREEMPTED, ["scontrol requeue 77"]), (TERMINATED, []), (1, []), (0, [])])
def test_a_training_is_queued_again_where_its_exit_code_says_so(code: int, queued: list[str], tmp_path: Path) -> None:
    done = run_script(DEPLOY / "slurm-train.sh", tmp_path, fullscale=f"exit {code}")
    assert (done.returncode, done.stdout.splitlines()) == (code, queued)


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


DOCKERFILE = re.compile(
    r"(ARG|FROM|RUN|ENV|COPY|USER|VOLUME|EXPOSE|HEALTHCHECK|STOPSIGNAL|ENTRYPOINT|CMD) \S.*", re.DOTALL
)


@pytest.mark.parametrize("file", sorted(DEPLOY.glob("Dockerfile*")), ids=lambda p: p.name)
def test_a_dockerfile_is_made_of_instructions_and_its_shell_parses(file: Path) -> None:
    lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    instructions = "\n".join(lines).replace("\\\n", "").splitlines()
    assert all(DOCKERFILE.fullmatch(line) for line in instructions)
    *stages, _ = [line.split() for line in instructions if line.startswith("FROM ")]
    named = [stage[3] for stage in stages if stage[2] == "AS"]
    assert len(named) == len(stages)
    assert named == [word[7:] for line in instructions for word in line.split() if word.startswith("--from=")]
    for line in instructions:
        word, _, rest = line.partition(" ")
        if word == "RUN":
            subprocess.run(["sh", "-n", "-c", rest], check=True)
        if "[" in rest and word in ("ENTRYPOINT", "CMD", "HEALTHCHECK"):
            assert all(isinstance(part, str) for part in json.loads(rest[rest.index("[") :]))
    extras = re.findall(r"/src\[([\w,]+)\]", file.read_text())
    declared = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras[0].split(",")) <= declared.keys()


def test_the_service_of_compose_starts_with_a_token_and_keeps_its_jobs() -> None:
    compose = yaml.safe_load((DEPLOY / "docker-compose.serve.yaml").read_text())
    service = compose["services"]["serve"]
    words = service["command"].split()
    read_by_the_command(["serve", *words])
    given = dict(pairwise(words))
    assert given["--host"] == "0.0.0.0"
    assert given["--token-file"] == f"/run/secrets/{service['secrets'][0]}"
    assert f"state:{given['--state']}" in service["volumes"]
    assert f"./data:{given['--data']}:ro" in service["volumes"]
    assert all(port.startswith("127.0.0.1:") and port.endswith(f":{given['--port']}") for port in service["ports"])
    assert "state" in compose["volumes"]


def test_the_pacs_of_compose_and_the_service_know_each_other() -> None:
    compose = yaml.safe_load((DEPLOY / "docker-compose.pacs.yaml").read_text())["services"]
    words = compose["serve"]["command"].split()
    read_by_the_command(["serve", *words])
    given = dict(pairwise(words))
    known = json.loads(compose["orthanc"]["environment"]["ORTHANC__DICOM_MODALITIES"])
    assert known == {"fullscale": ["FULLSCALE", "serve", int(given["--dicom-port"])]}
    assert given["--pacs"].startswith("http://orthanc:8042/")
    assert f"./rules.yaml:{given['--rules']}:ro" in compose["serve"]["volumes"]
    rules = read_rules(DEPLOY / "pacs-rules.yaml", ["model"], given["--pacs"])
    assert compose["orthanc"]["environment"]["ORTHANC__DICOM_AET"] in rules.receive.callers


def test_the_rules_of_the_documentation_are_rules(tmp_path: Path) -> None:
    page = (DEPLOY.parent / "docs" / "how-to" / "pacs.md").read_text()
    [content] = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "rules.yaml").write_text(content)
    rules = read_rules(tmp_path / "rules.yaml", ["liver"], "https://HOST/dicom-web")
    assert [rule.name for rule in rules.rules] == ["liver"]
    assert f"{rules.retry.pause_s(4) / 60:.0f} minutes" in page


def test_every_option_of_the_templates_exists(fullscale: Command) -> None:
    for verb, options in {"predict": ["--shard", "--dask", "--jobs"], "train": ["--fold"]}.items():
        text = fullscale(verb, "--help", COLUMNS="200").stdout
        assert all(option in text for option in options)
