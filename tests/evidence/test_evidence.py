"""Evidence of a model: other programs read it, every change of it is noticed, and it is the same each time."""

import csv
import json
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from fullscale.errors import DataError, UsageError
from fullscale.evidence.folder import write_evidence
from fullscale.evidence.manifest import read_manifest
from fullscale.evidence.verify import verify_evidence
from tests.conftest import Command, Once


@pytest.fixture(scope="module")
def written(trained_run: Path, once: Once) -> Path:
    return once("evidence", lambda folder: write_evidence(trained_run, folder))


@pytest.fixture
def evidence(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "evidence"))


def sha256sum(folder: Path, manifest: Path) -> subprocess.CompletedProcess[str]:
    program = shutil.which("sha256sum")
    if program is None:
        pytest.skip("no sha256sum here")
    return subprocess.run(
        [program, "--check", "--strict", manifest], cwd=folder, capture_output=True, text=True, check=False
    )


def test_an_auditor_without_fullscale_checks_files_and_weights(written: Path, trained_run: Path) -> None:
    assert sha256sum(written, written / "SHA256SUMS").returncode == 0
    named = read_manifest(written / "SHA256SUMS").keys() | {"SHA256SUMS"}
    assert named == {file.relative_to(written).as_posix() for file in written.rglob("*") if file.is_file()}
    checked = sha256sum(trained_run / "bundle", written / "weights.sha256")
    assert checked.stdout.splitlines() == ["model.json: OK", "model.safetensors: OK"]
    assert verify_evidence(written, trained_run) == verify_evidence(written) == []


@pytest.mark.long
def test_the_folder_is_the_same_each_time(written: Path, trained_run: Path, tmp_path: Path) -> None:
    again = write_evidence(trained_run, tmp_path / "again")
    assert (again.folder / "SHA256SUMS").read_bytes() == (written / "SHA256SUMS").read_bytes()


def test_it_tells_no_place_and_holds_neither_scans_nor_weights(written: Path, trained_run: Path) -> None:
    files = [file for file in written.rglob("*") if file.is_file()]
    assert not [file for file in files if str(trained_run).encode() in file.read_bytes()]
    assert not [file for file in files if file.suffix in (".safetensors", ".gz", ".ckpt")]


def test_the_bill_of_materials_is_cyclonedx_and_names_what_is_installed(written: Path) -> None:
    text = (written / "sbom.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bill = json.loads(text)
    components = {one["name"]: one for one in bill["components"]}
    assert components["torch"]["version"] == version("torch")
    assert {"fullscale", "numpy", "scipy", "pydantic-core"} <= components.keys()
    assert "pytest" not in components
    model = bill["metadata"]["component"]
    assert model["type"] == "machine-learning-model"
    assert [digest["content"] for digest in model["hashes"]] == [
        digest for name, digest in read_manifest(written / "weights.sha256").items() if name.endswith(".safetensors")
    ]
    broken = text.replace('"type": "library"', '"type": "novel"')
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(broken) is not None


def test_every_dependency_has_its_licence(written: Path) -> None:
    with (written / "licences.csv").open(newline="") as stream:
        found = {row["name"]: row for row in csv.DictReader(stream)}
    assert found["pydantic"] == {"name": "pydantic", "version": version("pydantic"), "licence": "MIT", "texts": "1"}
    assert found["fullscale"]["licence"] == "Apache-2.0"
    bill = json.loads((written / "sbom.cdx.json").read_text())
    assert {one["name"] for one in bill["components"]} == found.keys()
    [pydantic] = [one for one in bill["dependencies"] if one["ref"].startswith("pydantic==")]
    assert f"pydantic-core=={version('pydantic-core')}" in pydantic["dependsOn"]
    assert "Permission is hereby granted" in (written / "licences" / "pydantic" / "LICENSE").read_text()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("MODEL_CARD.md", "MODEL_CARD.md: was changed"),
        ("run/summary.json", "run/summary.json: was changed"),
        ("licences/numpy/LICENSE.txt", "licences/numpy/LICENSE.txt: was changed"),
        ("weights.sha256", "weights.sha256: names other weights as model.safetensors"),
    ],
)
def test_a_changed_byte_is_noticed(evidence: Path, fullscale: Command, name: str, said: str) -> None:
    content = bytearray((evidence / name).read_bytes())
    place = content.index(b"model.safetensors") - 10 if name == "weights.sha256" else len(content) // 2
    content[place] = ord("1") if content[place] == ord("0") else ord("0")  # of a digest, another digit
    (evidence / name).write_bytes(bytes(content))
    checked = fullscale("evidence", "--verify", evidence)
    assert checked.returncode == 3
    assert any(fault.startswith(said) for fault in checked.stdout.splitlines()), checked.stdout
    assert sha256sum(evidence, evidence / "SHA256SUMS").returncode == 1


def test_a_lost_an_added_and_a_linked_file_are_noticed(evidence: Path) -> None:
    (evidence / "report.html").unlink()
    (evidence / "run" / "notes.txt").write_text("new")
    (evidence / "link.md").symlink_to(evidence / "README.md")
    assert verify_evidence(evidence) == [
        "link.md: is no plain file",
        "report.html: is missing",
        "run/notes.txt: was added; SHA256SUMS does not name it",
    ]


def test_a_score_changed_with_all_its_digests_is_still_noticed_by_the_card(evidence: Path) -> None:
    scores = evidence / "run" / "fold_0" / "validation" / "summary.json"
    content = json.loads(scores.read_text())
    for case in content["metric_per_case"]:
        case["metrics"]["1"]["Dice"] = 0.99
    scores.write_text(json.dumps(content))
    manifest = read_manifest(evidence / "SHA256SUMS")
    digests = subprocess.run(["sha256sum", *manifest], cwd=evidence, capture_output=True, text=True, check=True).stdout
    (evidence / "SHA256SUMS").write_text(digests)
    assert any("scores: liver, Dice: the card says" in fault for fault in verify_evidence(evidence))


def test_another_model_is_not_taken_for_the_one_that_is_named(
    written: Path, shallow_bundle: Path, fullscale: Command
) -> None:
    other = fullscale("evidence", shallow_bundle, "--verify", written)
    assert other.returncode == 3
    assert "model.safetensors: is not what the evidence names" in other.stdout


def test_what_cannot_be_written_or_verified_is_said_in_a_line(
    trained_run: Path, written: Path, tmp_path: Path, fullscale: Command
) -> None:
    run = Path(shutil.copytree(trained_run, tmp_path / "run"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("mine")
    assert fullscale("evidence", run, "-o", tmp_path / "mine").returncode == 2
    assert [file.name for file in (tmp_path / "mine").iterdir()] == ["letter.txt"]
    assert "give the run" in fullscale("evidence", run / "fold_0", "-o", tmp_path / "out").stderr
    assert "give a run and -o FOLDER" in fullscale("evidence", run).stderr
    assert "--verify writes nothing" in fullscale("evidence", "--verify", written, "-o", tmp_path / "out").stderr
    card = run / "bundle" / "MODEL_CARD.md"
    card.write_text(card.read_text().replace("No authority has cleared it.", ""))
    with pytest.raises(DataError, match="bring it up to date with fullscale card"):
        write_evidence(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    for missing in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DataError, match="expected what fullscale evidence RUN -o"):
            verify_evidence(missing)
    (tmp_path / "sums").write_text("0" * 64 + "  ../letter.txt\n")
    with pytest.raises(DataError, match="outside of the folder"):
        read_manifest(tmp_path / "sums")
    with pytest.raises(UsageError):
        write_evidence(run / "fold_0", tmp_path / "out")
