"""The service and its training are killed while they work: the training ends all the same, and replaces nothing."""

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest

from fullscale.errors import UsageError
from fullscale.files import only_one
from tests.faults.scale import LONG, SEED, record
from tests.serve.served import Served, served

pytestmark = [pytest.mark.faults, *(() if LONG else (pytest.mark.long,))]

KILLS = 2
"""Of the training; a third would give it up."""
PATIENCE_S = 240


def correct(service: Served, phantoms: Path, case: str) -> None:
    mask = phantoms / "labelsTr" / f"{case}.nii.gz"
    sent = {"label": (mask.name, mask.read_bytes())}
    saved = service.client.put("/datastore/label", params={"image": case}, data={"params": "{}"}, files=sent)
    assert saved.status_code == 200, saved.text


def at_work(folder: Path) -> bool:
    try:
        with only_one(folder, "training"):
            return False
    except UsageError:
        return True


def until(wanted: str, service: Served, id: str) -> dict[str, object]:
    for _ in range(2 * PATIENCE_S):
        found: dict[str, object] = service.client.get(f"/circle/trainings/{id}").json()
        if found["state"] == wanted:
            return found
        time.sleep(0.5)
    raise AssertionError(found)


def test_a_training_that_is_killed_with_its_service_is_taken_up_again(
    trained_run: Path, phantoms: Path, tmp_path: Path
) -> None:
    state, rng = tmp_path / "state", random.Random(f"{SEED} circle")
    words = (f"tiny={trained_run}", "--data", phantoms / "imagesTr", "--device", "cpu")
    with served(state, *words) as service:
        old = service.client.get("/models").json()[0]["digest"]
        for k in range(4):
            correct(service, phantoms, f"phantom_00{k}")
        id = service.client.post("/circle/tiny/trainings", json={"minutes": 0.1}).json()["id"]
        folder = state / "circle" / "trainings" / id
        service.process.kill()
    assert at_work(folder) or (folder / "ended.json").exists()  # it outlives the service
    for kill in range(KILLS):
        with served(state, *words, nth=kill + 2) as service:
            until("running", service, id)
            time.sleep(rng.uniform(0, 8))
            os.killpg(json.loads((folder / "pid").read_text())["pid"], signal.SIGKILL)
            until("interrupted", service, id)
            assert service.client.post("/circle/tiny/trainings", json={}).status_code == 422
    with served(state, *words, nth=KILLS + 2) as service:
        ended = until("done", service, id)
        assert (ended["cases"], ended["held_out"]) == (["phantom_000", "phantom_002", "phantom_003"], ["phantom_001"])
        assert [one["case"] for one in ended["scores"]] == ["phantom_001"]  # type: ignore[attr-defined]
        assert service.client.get("/models").json()[0]["digest"] == old
        chosen = service.client.put("/circle/tiny/choice", json={"training": id}).json()
        assert chosen["digest"] == ended["digest"] != old
        stopped = service.client.post("/circle/tiny/trainings", json={"minutes": 9}).json()["id"]
        assert service.client.delete(f"/circle/trainings/{stopped}").json()["state"] == "stopped"
        assert not at_work(state / "circle" / "trainings" / stopped)
    assert not list(folder.rglob(".writing-*"))
    record("service circle", {"killed": KILLS + 1, "jobs": 1, "interrupted": KILLS, "ended once": 1})
