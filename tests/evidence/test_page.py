"""The page on evidence does what it says, from its phantoms to the check of an auditor."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import QUICK, Command
from tests.test_docs import ROOT, commands_in


@pytest.mark.long
def test_the_walk_from_phantoms_to_verified_evidence(
    fullscale: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "how-to" / "evidence.md").read_text()
    walk = [
        words
        for words in commands_in(page)
        if words[1] in ("phantom", "train") or "run" in words or "--verify" in words
    ]
    verbs = [words[1] for words in walk]
    assert verbs[:2] == ["phantom", "train"]
    assert verbs.count("card") == 3
    assert verbs.count("evidence") == 3
    for words in walk:
        done = fullscale(*words[1:], *(QUICK if words[1] == "train" else []))
        assert done.returncode == 0, (words, done.stderr)
    if shutil.which("sha256sum"):
        for block in (
            "cd evidence && sha256sum -c SHA256SUMS",
            "cd run/bundle && sha256sum -c ../../evidence/weights.sha256",
        ):
            assert f"    {block}\n" in page
            assert subprocess.run(block, shell=True, check=False, capture_output=True).returncode == 0
