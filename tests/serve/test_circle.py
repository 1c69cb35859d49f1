"""The circle without its trainings: order by doubt, corrected cases as a data set, and the choice of a model."""

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from fullscale.data.discover import Scan
from fullscale.data.identity import content_of
from fullscale.data.labels import LabelScheme
from fullscale.data.layouts.find import find_dataset
from fullscale.data.read import read_image
from fullscale.data.truth import truth_of
from fullscale.errors import DataError
from fullscale.serve.annotations import FINAL, viewed_of
from fullscale.serve.app import make_app
from fullscale.serve.circle.circle import run_of
from fullscale.serve.circle.corrected import Corrected, write_dataset
from fullscale.serve.circle.doubt import NOTHING_FOUND, DoubtingPredictor
from fullscale.serve.circle.training import ASKED, ENDED, AskedTraining
from fullscale.serve.jobs import JobStore
from fullscale.serve.recent import RecentLines
from fullscale.serve.service import Refused, Service
from fullscale.serve.settings import ServeSettings, named_models
from tests.dicom_slices import write_series


class InProcess:
    """A service whose models nobody runs: jobs wait, and a test says what came of them."""

    def __init__(self, state: Path, run: Path, phantoms: Path) -> None:
        self.settings = ServeSettings(named_models([f"tiny={run}"]), state)
        self.settings.make_folders()
        names = [f"phantom_{k:03d}" for k in range(6)]
        scans = {name: Scan(name, phantoms / "imagesTr" / f"{name}.nii.gz") for name in names}
        self.model = self.settings.models["tiny"]
        self.service = Service(self.settings, JobStore(self.settings.database), {self.model.channels: scans})
        app = make_app(self.service, RecentLines())
        self.client, self.circle = TestClient(app, base_url="http://127.0.0.1"), app.state.circle
        self.truth = phantoms / "labelsTr"

    def done(self, case: str, doubt: float, digest: str | None = None) -> str:
        """Say that a job of a case has ended, and how little the model was sure."""
        while (job := self.service.store.claim()) is not None and job.case != case:
            self.service.store.end(job, "failed")
        assert job is not None
        result = {"doubt": doubt, "model_digest": digest or self.model.card.digest}
        self.service.store.end(job, "done", result=result)
        return job.id

    def correct(self, case: str, **said: object) -> None:
        """Save the truth of a case as a finished mask."""
        mask = read_image(self.truth / f"{case}.nii.gz")
        self.circle.annotations.save(case, FINAL, mask, self.model.card.structures, said)


@pytest.fixture
def there(trained_run: Path, phantoms: Path, tmp_path: Path) -> Iterator[InProcess]:
    made = InProcess(tmp_path / "state", trained_run, phantoms)
    yield made
    made.service.store.close()


def test_doubt_is_one_less_the_soft_dice_of_the_probabilities(trained_run: Path, phantoms: Path) -> None:
    predictor = DoubtingPredictor.from_run(trained_run, "cpu")
    assert predictor.doubt is None
    mask, soft = predictor.predict_probabilities(phantoms / "imagesTr" / "phantom_000.nii.gz")
    found = []
    for value, name in predictor.card.structures.items():
        inside, p = mask.array == value, soft[name].array.astype(np.float64)
        p[(p < 0.01)] = 0
        if inside.any():
            found.append(2 * p[inside].sum() / (p.sum() + inside.sum()))
    assert found
    assert predictor.doubt == pytest.approx(1 - np.mean(found), abs=0.02)  # they are counted in bins
    empty = mask.with_array(np.full(mask.array.shape, -1000, np.float32))
    predictor.predict({"image": empty} if len(predictor.channels) > 1 else empty)
    assert predictor.doubt is not None
    assert 0 <= predictor.doubt <= NOTHING_FOUND


def test_cases_are_ordered_by_the_doubt_of_the_model_that_is_served(there: InProcess) -> None:
    assert {one["doubt"] for one in there.client.get("/circle/tiny/order").json()} == {None}
    assert there.client.post("/circle/tiny/order").json() == {"queued": 6}
    assert there.client.post("/circle/tiny/order").json() == {"queued": 0}
    for case, doubt in (("phantom_000", 0.2), ("phantom_001", 0.7), ("phantom_002", 0.4)):
        there.done(case, doubt)
    there.done("phantom_003", 0.9, digest="another model")
    there.correct("phantom_002")
    order = there.client.get("/circle/tiny/order").json()
    assert [one["case"] for one in order] == [f"phantom_00{k}" for k in (1, 0, 3, 4, 5)]
    assert [one["doubt"] for one in order] == [0.7, 0.2, None, None, None]
    assert there.client.post("/activelearning/doubt").json()["id"] == "phantom_001"
    assert there.client.get("/circle/other/order").status_code == 404


def test_corrected_cases_are_a_data_set_that_says_who_drew_what(there: InProcess) -> None:
    assert there.client.get("/circle/tiny/cases").json() == []
    assert there.client.get("/circle/tiny/dataset").status_code == 422
    there.client.post("/circle/tiny/order")
    job = there.done("phantom_000", 0.5, digest="of the model then")
    there.correct("phantom_000", who="Ann", job=job)
    assert [one["who"] for one in there.client.get("/circle/tiny/cases").json()] == ["Ann"]
    there.correct("phantom_001", who="Ben", viewed={"axis": 2, "slices": [3, 4, 99]})
    there.correct("phantom_004")
    there.correct("phantom_000", who="Eve", job=job)
    first, second, third = there.client.get("/circle/tiny/cases").json()
    assert (first["case"], first["who"], first["version"]) == ("phantom_000", "Eve", 2)
    assert (first["model_digest"], first["held_out"], second["held_out"]) == ("of the model then", False, True)
    assert third["model_digest"] is None
    scan = there.service.cases_of(there.model)["phantom_000"].path
    assert first["scan_digest"] == content_of([scan], {})["content"]
    place = there.client.get("/circle/tiny/dataset").json()
    assert place["cases"] == ["phantom_000", "phantom_001", "phantom_004"]
    assert not place["dataset"].startswith("/")
    found = find_dataset(there.settings.state / place["dataset"])
    assert found.problems == []
    assert (found.labels, found.modality) == ({0: "background", 1: "liver", 2: "spleen"}, "CT")
    scheme = LabelScheme(found.labels)
    truths = {case.id: truth_of(case, scheme) for case in found.cases}
    truth = read_image(there.truth / "phantom_000.nii.gz").array
    np.testing.assert_array_equal(truths["phantom_000"].labels.array, truth)
    assert truths["phantom_000"].ignored is None
    ignored = truths["phantom_001"].ignored
    assert ignored is not None
    assert ignored.all(axis=(0, 1)).tolist() == [z not in (3, 4) for z in range(ignored.shape[2])]


def test_what_is_held_out_stays_held_out(there: InProcess) -> None:
    held = set[str]()
    for k in (3, 1, 5, 0, 2, 4):
        there.correct(f"phantom_00{k}")
        found = there.circle.corrected(there.model)
        now = {case.name for case in found if case.held_out}
        assert held <= now
        held = now
    assert held == {"phantom_001", "phantom_004"}  # the second and the sixth
    there.circle.annotations.remove("phantom_001", FINAL)
    assert {case.name for case in there.circle.corrected(there.model) if case.held_out} == {"phantom_004"}


@pytest.mark.parametrize("viewed", [[1], {"axis": 3, "slices": []}, {"axis": 0, "slices": ["1"]}, {"axis": 0}])
def test_slices_that_were_viewed_are_said_in_one_form(viewed: object) -> None:
    with pytest.raises(DataError, match="'viewed' of a mask is"):
        viewed_of({"said": {"viewed": viewed}})


def test_a_training_needs_a_case_to_learn_from_and_one_that_is_held_out(there: InProcess) -> None:
    there.correct("phantom_000")
    answer = there.client.post("/circle/tiny/trainings", json={"minutes": 1})
    assert (answer.status_code, answer.json()["detail"][:43]) == (422, "1 corrected cases: two are needed at least,")
    for wrong in ({"minutes": -1}, {"minutes": "long"}, {"hours": 1}, [], {"learning_rate": 2}):
        answer = there.client.post("/circle/tiny/trainings", json=wrong)
        assert answer.status_code == 422
        assert answer.json()["detail"].startswith("the training: ")
    assert there.client.post("/circle/tiny/trainings", content=b" " * 70_000).status_code == 413
    assert there.client.post("/circle/tiny/trainings", content=b"{").status_code == 400
    assert there.client.post("/train/tiny", json={"tiny": {"minutes": "long"}}).status_code == 422
    assert there.client.put("/circle/tiny/choice", json={"training": "../../x"}).status_code == 404
    assert there.client.put("/circle/tiny/choice", json={}).status_code == 422
    assert there.client.get("/circle/trainings").json() == []
    assert there.client.get(f"/circle/trainings/{'0' * 16}").status_code == 404


def a_training(there: InProcess, state: str, run: Path, id: str = "0123456789abcdef") -> str:
    """Put a training that has ended into the folder of the service; its model is that of the run, but for a word."""
    folder = there.circle.root / "trainings" / id
    shutil.copytree(run, folder / "run")
    card = next((folder / "run" / "bundle").rglob("model.json"))
    card.write_text(card.read_text().replace('"modality": "CT"', '"modality": "MR"'))
    asked = AskedTraining(
        model="tiny", path=run, run=run, digest="old", cases=("a",), held_out=("b",), minutes=1, created=time.time()
    )
    (folder / ASKED).write_text(asked.model_dump_json())
    (folder / ENDED).write_text(json.dumps({"state": state, "finished": time.time(), "digest": "new"}))
    return id


def test_a_person_chooses_the_new_model_and_takes_it_back(there: InProcess, trained_run: Path, phantoms: Path) -> None:
    def served(one: InProcess) -> str:
        return str(one.client.get("/models").json()[0]["digest"])

    old = served(there)
    failed = a_training(there, "failed", trained_run, "f" * 16)
    refused = there.client.put("/circle/tiny/choice", json={"training": failed})
    assert (refused.status_code, served(there)) == (422, old)
    id = a_training(there, "done", trained_run)
    assert served(there) == old  # nothing is replaced by itself
    assert there.client.put("/circle/tiny/choice", json={"training": id}).status_code == 200
    new = served(there)
    assert new != old
    assert there.client.get(f"/circle/trainings/{id}").json()["chosen"] is True
    again = InProcess(there.settings.state, trained_run, phantoms)  # after a restart
    assert served(again) == new
    assert again.client.delete("/circle/tiny/choice").status_code == 200
    assert served(again) == old
    assert served(InProcess(there.settings.state, trained_run, phantoms)) == old


def test_a_choice_is_not_kept_for_another_model(
    there: InProcess, trained_run: Path, phantoms: Path, tmp_path: Path
) -> None:
    there.client.put("/circle/tiny/choice", json={"training": a_training(there, "done", trained_run)})
    other = tmp_path / "other"
    shutil.copytree(there.circle.root / "trainings" / "0123456789abcdef" / "run", other)
    card = next((other / "bundle").rglob("model.json"))
    card.write_text(card.read_text().replace('"modality": "MR"', '"modality": "PT"'))
    again = InProcess(there.settings.state, other, phantoms)
    assert again.client.get("/models").json()[0]["modality"] == "PT"


def test_of_a_dicom_study_a_volume_is_made_once(there: InProcess, tmp_path: Path) -> None:
    study = write_series(tmp_path / "study")
    scan = Scan("study", study)
    grid = read_image(study)
    mask = grid.with_array((grid.array > np.median(grid.array)).astype(np.uint8))
    annotation = there.circle.annotations.save("study", FINAL, mask, there.model.card.structures, {})
    corrected = [Corrected(scan, annotation, held_out=False)]
    for _ in range(2):
        [case] = find_dataset(write_dataset(tmp_path / "data", there.model, corrected, {})).cases
        np.testing.assert_array_equal(read_image(case.first).array, grid.array)
        np.testing.assert_allclose(read_image(case.first).affine, read_image(case.label or "").affine, atol=1e-4)
        made = case.first.stat().st_mtime_ns
    assert case.first.stat().st_mtime_ns == made
    assert len(list((tmp_path / "data").rglob("*.nii.gz"))) == 1


def test_a_model_without_its_run_and_one_of_several_members_are_not_trained(
    there: InProcess, trained_run: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained_run / "bundle", tmp_path / "bundle")
    alone = named_models([f"tiny={tmp_path / 'bundle'}"])["tiny"]
    with pytest.raises(Refused, match="the model tiny lies in no run folder"):
        run_of(alone)
    for suffix in (".onnx", ".xml"):  # within the run, but training cannot start from it
        with pytest.raises(Refused, match="the model tiny lies in no run folder"):
            run_of(replace(there.model, path=trained_run / f"model{suffix}"))
    with pytest.raises(Refused, match="the model tiny has 2 members"):
        run_of(replace(there.model, members=2))
    assert run_of(there.model) == trained_run
    assert run_of(named_models([f"tiny={trained_run / 'fold_0'}"])["tiny"]) == trained_run
