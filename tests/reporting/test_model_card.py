"""The model card: its figures are those of the scores, words of people stay, and what no longer matches is named."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from fullscale.data.distribution import FactsRecord
from fullscale.reporting.model_card.card import check_model_card, names_its_model, write_model_card
from fullscale.reporting.model_card.document import differences, edited, marked, renewed, sections_in
from fullscale.reporting.model_card.facts import Facts, find_places, read_facts
from fullscale.reporting.model_card.figures import failures, subgroups
from fullscale.reporting.model_card.markdown import escaped
from fullscale.reporting.model_card.sections import training_data
from fullscale.scoring.statistics import bootstrap_interval
from tests.conftest import Command


@pytest.fixture
def run(trained_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained_run, tmp_path / "run"))


@pytest.fixture
def facts(trained_run: Path) -> Facts:
    return read_facts(find_places(trained_run))


def rows_in(text: str) -> list[list[str]]:
    """The cells of each row of every table."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_training_leaves_a_card_with_the_figures_of_its_scores(trained_run: Path) -> None:
    for folder, scores in ((trained_run, "summary.json"), (trained_run / "fold_0", "validation/summary.json")):
        text = (folder / "bundle" / "MODEL_CARD.md").read_text()
        cases = json.loads((folder / scores).read_text())["metric_per_case"]
        dice = np.mean([case["metrics"]["1"]["Dice"] for case in cases])
        [row] = [row for row in rows_in(text) if row[0] == "liver" and len(row) == 9]
        assert row[1:3] == [str(len(cases)), f"{dice:.4f}"]
        assert "not a medical device" in text
        assert re.search(r"\| 0 \| 2 \| 8 \|", text)  # epochs and steps of the fold
        head = yaml.safe_load(text.split("---\n")[1])
        assert (head["library_name"], head["pipeline_tag"]) == ("fullscale", "image-segmentation")
        assert str(trained_run) not in text
        assert check_model_card(folder) == []


def test_a_score_that_changed_is_named_and_words_of_people_stay(run: Path, fullscale: Command) -> None:
    card, scores = run / "bundle" / "MODEL_CARD.md", run / "fold_0" / "validation" / "summary.json"
    card.write_text(card.read_text().replace("**Contact:** not written yet.", "**Contact:** ward 7") + "\nMine too.\n")
    assert check_model_card(run) == []
    content = json.loads(scores.read_text())
    for case in content["metric_per_case"]:
        case["metrics"]["1"]["Dice"] = 0.9876
    scores.write_text(json.dumps(content))
    faults = check_model_card(run)
    assert any(
        re.match(r"scores: liver, Dice: the card says '0\.\d+', the run says '0\.9876'", line) for line in faults
    )
    checked = fullscale("card", run, "--check")
    assert (checked.returncode, checked.stdout.splitlines()) == (3, faults)
    assert fullscale("card", run).returncode == 0
    assert check_model_card(run) == []
    assert "ward 7" in card.read_text()
    assert card.read_text().endswith("\nMine too.\n")


def test_a_section_that_somebody_changed_is_replaced_on_request_alone(run: Path, fullscale: Command) -> None:
    card = run / "bundle" / "MODEL_CARD.md"
    clean = card.read_text()
    card.write_text(clean.replace("This is not a medical device", "This is a fine device"))
    before = card.read_bytes()
    refused = fullscale("card", run)
    assert (refused.returncode, card.read_bytes()) == (2, before)
    assert "somebody changed intended-use" in refused.stderr
    assert fullscale("card", run, "--overwrite").returncode == 0
    assert card.read_text() == clean
    card.write_text(clean.replace("<!-- end scores -->", ""))
    assert check_model_card(run) == ["scores: the section or one of its markers is missing"]
    assert names_its_model(run / "bundle")
    card.write_bytes(b"\xff\xfe no text")
    assert not names_its_model(run / "bundle")
    card.unlink()
    assert not names_its_model(run / "bundle")
    assert "fullscale card" in fullscale("card", run, "--check").stderr


def test_a_card_in_the_words_of_another_version_is_held_to_its_figures(run: Path) -> None:
    card = run / "bundle" / "MODEL_CARD.md"
    bodies = {name: section.body for name, section in sections_in(card.read_text()).items()}
    old = bodies | {"head": bodies["head"].replace('library_version: "', 'library_version: "0.1.')}
    old["scores"] = old["scores"].replace("NSD is the share", "The NSD tells the share")
    card.write_text(renewed(card.read_text(), old))
    assert check_model_card(run) == []
    text = card.read_text()
    card.write_text(text.replace("The NSD tells", "The NSD shouts"))
    assert check_model_card(run) == ["scores: somebody changed it since it was written"]
    [liver] = [line for line in old["scores"].splitlines() if line.startswith("| liver |")]
    false = re.sub(r"0\.\d{4}", "0.9999", liver, count=1)
    card.write_text(renewed(text, old | {"scores": old["scores"].replace(liver, false)}))
    [fault] = check_model_card(run)
    assert fault.startswith("scores: liver, Dice: the card says '0.9999'")


def test_markers_that_were_damaged_swallow_no_words() -> None:
    first, second = marked("a", "one\n"), marked("b", "two\n")
    text = f"{first}\nmine\n{second}\n"
    damaged = text.replace("<!-- end a -->\n", "")
    now = renewed(damaged, {"a": "new\n", "b": "two\n"})
    assert "mine\n" in now
    assert differences(now, {"a": "new\n", "b": "two\n"}) == []
    assert edited(text.replace("one", "three")) == ["a"]
    assert renewed(text, {"a": "one\n", "b": "two\n"}) == text


def twelve(facts: Facts) -> Facts:
    """Twelve cases of known Dice, volume, spacing and scanner; the last one misses the liver."""
    first = facts.summary.cases[0]
    cases, records = [], []
    for n in range(12):
        scores = {
            **first.metrics[1],
            "Dice": n / 20,
            "reference_volume_ml": 1000.0 + 100 * n,
            "n_ref": 1,
            "n_pred": int(n < 11),
        }
        cases.append(replace(first, case=f"c{n:02d}", metrics={1: scores, 2: first.metrics[2]}))
        spacing = (1.0, 1.0, 1.0 if n < 5 else 5.0)
        records.append(facts.data.facts[0].model_copy(update={"case": f"c{n:02d}", "spacing_mm": spacing}))
    assert isinstance(records[0], FactsRecord)
    said = {f"c{n:02d}": {"scanner": "A" if n < 3 else "B|<b>"} for n in range(12)}
    data = facts.data.model_copy(update={"facts": records, "subgroups": said, "licence": "CC-BY-SA 4.0"})
    return replace(facts, summary=replace(facts.summary, cases=cases), data=data)


def test_groups_are_scored_as_by_hand_and_small_ones_get_no_interval(facts: Facts) -> None:
    known = twelve(facts)
    text = subgroups(known)
    by = {(row[0], row[1], row[2]): row[3:] for row in rows_in(text)}
    assert by["scanner", "A", "liver"] == ["3", "0.0500", "too few cases"]
    low, high = bootstrap_interval([n / 20 for n in range(3, 12)]) or (0, 0)
    assert by["scanner", r"B\|&lt;b&gt;", "liver"] == ["9", "0.3500", f"{low:.4f} to {high:.4f}"]
    assert by["distance between slices in mm", "1", "liver"][:2] == ["5", "0.1000"]
    assert by["distance between slices in mm", "5", "liver"][:2] == ["7", "0.4000"]
    assert by["true volume of liver in ml", "1800 to 2100", "liver"][:2] == ["4", "0.4750"]
    assert "spacing within slices in mm: 1 in all 12 cases" in text
    assert "CC-BY-SA 4.0, as the data set says" in training_data(known)


def test_the_worst_cases_and_the_missed_structures_are_named(facts: Facts) -> None:
    rows = rows_in(failures(twelve(facts)))
    assert [row[0] for row in rows[2:7]] == ["c00", "c01", "c02", "c03", "c04"]
    assert ["liver", "12", "1", "0", "0", "c11"] in rows


def test_names_from_data_are_no_markup() -> None:
    assert escaped("a|b <!-- begin scores -->\n# *x* _y_ a_b") == (
        r"a\|b &lt;!-- begin scores --&gt; \# \*x\* \_y\_ a_b"
    )


def test_a_card_is_the_same_each_time(run: Path) -> None:
    card = run / "bundle" / "MODEL_CARD.md"
    before = card.read_bytes()
    assert write_model_card(run).changed == []
    card.unlink()
    write_model_card(run)
    assert card.read_bytes() == before
