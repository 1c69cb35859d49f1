"""The report of a run and of an evaluation: what it says is what the scores say, and it holds all that it shows."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from fullscale.bundle.card import read_card
from fullscale.bundle.trust import Calibration, ReliabilityBin
from fullscale.errors import DataError, UsageError
from fullscale.reporting.html import chosen_cases, write_report
from fullscale.reporting.scene import RenderOptions
from fullscale.reporting.source import find_source
from fullscale.text import without_folders
from tests.conftest import Command

SECTIONS = ["good", "reliable", "looks", "trained", "guided", "fails"]


class Page(HTMLParser):
    """Sections in their order, the numbers of the sortable tables, the pictures, and every address."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.sections: list[str] = []
        self.cells: list[str] = []
        self.pictures: list[str] = []
        self.addresses: list[str] = []
        self.words = ""
        self._in_cell = False
        self.text = file.read_text()
        self.feed(self.text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        if tag == "section":
            self.sections.append(found["id"] or "")
        if tag == "img":
            self.pictures.append(found["src"] or "")
        self.addresses += [value or "" for key, value in attributes if key in ("src", "href")]
        self._in_cell = (tag == "td" and "data-v" in found) or tag == "small"

    def handle_data(self, data: str) -> None:
        self.words += data
        if self._in_cell:
            self.cells += data.split("–")
        self._in_cell = False


def numbers_in(content: Any) -> list[float]:
    if isinstance(content, dict | list):
        return [n for part in (content.values() if isinstance(content, dict) else content) for n in numbers_in(part)]
    return [float(content)] if isinstance(content, int | float) else []


@pytest.fixture
def run(trained_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained_run, tmp_path / "run"))


def test_the_report_of_a_run_answers_in_order_and_asks_for_nothing(run: Path) -> None:
    written = write_report(run)
    assert written.report == run / "report.html"
    assert written.notes == []
    page = Page(written.report)
    assert page.sections == SECTIONS
    assert len(page.pictures) == len(written.pictures) == 2
    assert all(address.startswith(("#", "data:")) for address in page.addresses)
    assert not re.search("https?:", page.text)
    assert "trainer.seed" in page.words
    assert "counts as a true negative" in page.words


def test_the_report_says_what_is_done_to_the_masks_afterwards_and_what_it_gave(run: Path) -> None:
    file = run / "bundle" / "model.json"
    card = json.loads(file.read_text())
    evidence = {"dice_before": 0.81, "dice_after": 0.83, "cases": 2, "better": 2, "worse": 0}
    rules = [{"structure": "liver", "action": "keep_largest", "evidence": evidence}]
    for given, words in (([], "no post-processing helped"), (rules, "liver: largest part kept (Dice 0.8100 to 0.8300")):
        file.write_text(json.dumps(card | {"postprocess": given}))
        assert words in Page(write_report(run).report).words


def test_the_report_shows_how_reliable_probabilities_and_expected_dice_are(run: Path) -> None:
    assert "trust" not in Page(write_report(run).report).sections
    file = run / "bundle" / "model.json"
    card = json.loads(file.read_text())
    name = next(iter(read_card(file).structures.values()))
    points = [ReliabilityBin(predicted=p, observed=p / 2, share=0.5) for p in (0.25, 0.75)]
    warm = Calibration(temperature=1.53, cases=7, ece_before=0.0412, ece_after=0.0123, before=points, after=points)
    shown = {"calibration": {name: warm.model_dump(mode="json")}}
    file.write_text(json.dumps(card | {"trust": shown}))
    page = Page(write_report(run).report)
    assert page.sections == [*SECTIONS[:2], "trust", *SECTIONS[2:]]
    assert {"1.53", "0.0412", "0.0123"} <= set(page.cells)
    assert "0.750: 0.375 of 50.0% of voxels" in page.text


def test_every_number_of_its_tables_stands_in_summary_json(run: Path) -> None:
    page = Page(write_report(run).report)
    known = numbers_in(json.loads((run / "fold_0" / "validation" / "summary.json").read_text()))
    shown = [cell for cell in page.cells if re.fullmatch(r"-?[\d.]+", cell)]
    assert len(shown) > 60
    for cell in shown:
        decimals = len(cell.partition(".")[2])
        assert any(f"{number:.{decimals}f}" == cell for number in known), cell


def test_masks_scored_by_themselves_have_a_report_too(fullscale: Command, run: Path, phantoms: Path) -> None:
    masks = Path(shutil.copytree(run / "fold_0" / "validation", run.parent / "masks"))
    (masks / "summary.json").unlink()
    scored = fullscale("evaluate", masks, phantoms)
    assert scored.returncode == 4, scored.stderr  # four cases of the data set have no prediction here
    shown = fullscale("report", masks, "--palette", "safe", "--json")
    assert shown.returncode == 0, shown.stderr
    written = json.loads(shown.stdout)
    assert written["report"] == str(masks / "report.html")
    page = Page(masks / "report.html")
    assert page.sections == [name for name in SECTIONS if name != "trained"]
    assert "has no prediction" in page.words
    assert len(page.pictures) == 2


def test_scans_that_are_gone_are_said_to_be(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FULLSCALE_CACHE", str(tmp_path / "of another machine"))  # where data lie is remembered there
    written = write_report(run, tmp_path / "out" / "page.html")
    assert written.pictures == []
    assert len(written.notes) == 2
    assert all("the scan is no longer at" in note for note in written.notes)
    page = Page(tmp_path / "out" / "page.html")
    assert page.pictures == []
    assert page.words.count("the scan is no longer at") == 2


def test_a_run_that_was_moved_still_finds_its_masks(run: Path, trained_run: Path) -> None:
    file = run / "fold_0" / "validation" / "summary.json"
    file.write_text(file.read_text().replace(str(trained_run), "/nowhere"))
    assert len(write_report(run).pictures) == 2


def test_best_median_worst_and_the_chosen_ones(run: Path) -> None:
    source = find_source(run)
    ranked = sorted(source.summary.cases, key=lambda case: case.mean("Dice") or 0)
    assert list(chosen_cases(source, []).values()) == [ranked[-1], ranked[0]]
    assert chosen_cases(source, [ranked[0].case]) == chosen_cases(source, [])
    with pytest.raises(UsageError, match="no scored case 'nobody'"):
        write_report(run, cases=["nobody"])
    assert not (run / "report.html").exists()


def test_folds_are_reported_together(run: Path) -> None:
    shutil.copytree(run / "fold_0", run / "fold_1")
    file = run / "fold_1" / "validation" / "summary.json"
    file.write_text(re.sub(r'"case": "', '"case": "other_', file.read_text()))
    assert len(find_source(run).summary.cases) == 4
    recorded = json.loads((run / "summary.json").read_text())["postprocess"]
    for _ in range(2):
        page = Page(write_report(run, options=RenderOptions(palette="safe")).report)
        assert "fold 0, fold 1" in page.words
        pooled = json.loads((run / "summary.json").read_text())
        assert (len(pooled["metric_per_case"]), pooled["postprocess"]) == (4, recorded)


def test_scores_that_another_model_made_are_named_and_left_out(run: Path) -> None:
    digest = find_source(run).records[0].digest
    assert digest is not None
    shutil.copytree(run / "fold_0", run / "fold_1")
    other = run / "fold_1" / "validation" / "summary.json"
    other.write_text(other.read_text().replace(digest, "f" * 64))
    source = find_source(run)
    assert list(source.folds) == ["0"]
    assert len(source.summary.cases) == 2
    page = Page(write_report(run).report)
    assert f"Fold 1: its scores were made by model ffffffffffff, its model is {digest[:12]}" in page.words
    assert page.words.count(digest[:12]) == 3  # the note, and a line for each fold
    shutil.rmtree(run / "fold_1" / "bundle")
    assert "the model that made its scores is not here: it is gone" in Page(write_report(run).report).words


def test_a_run_of_the_first_version_is_shown_with_what_is_not_known_of_it(run: Path) -> None:
    shutil.rmtree(run / "fold_0" / "bundle")
    file = run / "fold_0" / "validation" / "summary.json"
    content = json.loads(file.read_text())
    del content["model"]
    file.write_text(json.dumps(content))
    page = Page(write_report(run).report)
    assert "fullscale 0.1 wrote them, which did not record the model" in page.words
    assert len(find_source(run).summary.cases) == 2


def test_a_training_on_every_case_is_not_pooled_with_the_folds_and_says_what_it_was_trained_on(run: Path) -> None:
    shutil.copytree(run / "fold_0", run / "fold_all")
    file = run / "fold_all" / "validation" / "summary.json"
    seen = json.loads(file.read_text())["metric_per_case"][0]["case"]
    file.write_text(file.read_text().replace('"trained_on": []', f'"trained_on": ["{seen}"]'))
    assert list(find_source(run).folds) == ["0"]
    shutil.rmtree(run / "fold_0")
    assert list(find_source(run).folds) == ["all"]
    assert f"trained on 1 of these cases ({seen}): their scores say nothing" in Page(write_report(run).report).words


def test_names_are_text_and_never_markup(run: Path) -> None:
    file = run / "fold_0" / "validation" / "summary.json"
    file.write_text(file.read_text().replace('"liver"', '"<script>alert(1)</script>"'))
    page = Page(write_report(run).report)
    assert "<script>alert" not in page.text
    assert "<script>alert(1)</script>" in page.words


def test_the_page_tells_nothing_of_where_files_lie(run: Path, phantoms: Path) -> None:
    file = run / "fold_0" / "validation" / "summary.json"
    content = json.loads(file.read_text())
    content["failures"] = [{"case": "x", "message": f"{phantoms}/imagesTr/x.nii.gz: not a scan"}]
    content["metric_per_case"][0]["image_file"] = "/home/Jane Doe/scans/gone.nii.gz"
    content["data"] = None
    file.write_text(json.dumps(content))
    text = write_report(run).report.read_text()
    for hidden in (str(run.parent), str(phantoms.parent), "/home/", "Jane"):
        assert hidden not in text
    assert "x: x.nii.gz: not a scan" in text
    assert "the scan is no longer at gone.nii.gz" in text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/data/John Smith/scan.nii.gz: broken", "scan.nii.gz: broken"),
        ("masks of '/a/b/c.nii' and /d/e.nii differ", "masks of 'c.nii' and e.nii differ"),
        (r"C:\scans\a.nrrd", "a.nrrd"),
        ("1/2 of imagesTr/a.nii, 3 mm/s", "1/2 of imagesTr/a.nii, 3 mm/s"),
        (None, "None"),
    ],
)
def test_absolute_paths_are_shortened_and_nothing_else(text: str | None, shown: str) -> None:
    assert without_folders(text) == shown


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda _: None, "no such file or folder"),
        (lambda path: path.mkdir(), "holds neither a run nor summary.json"),
        (lambda path: path.write_text("{}"), r"is no summary\.json"),
        (lambda path: (path.mkdir(), (path / "config.yaml").write_text("")), "has no scores yet"),
    ],
    ids=["nowhere", "empty", "no scores", "unfinished"],
)
def test_what_cannot_be_reported_on_is_one_line(tmp_path: Path, make: Any, message: str) -> None:
    make(tmp_path / "x")
    with pytest.raises(DataError, match=message):
        write_report(tmp_path / "x")
    assert not (tmp_path / "report.html").exists()
