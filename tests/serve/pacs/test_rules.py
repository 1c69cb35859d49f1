"""The rule file: what fits, and what is wrong with one in a line."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from fullscale.errors import DataError, FullscaleError, UsageError
from fullscale.serve.pacs.rules import Retry, Rules, When, read_rules

SAID = {
    "Modality": "CT",
    "SeriesDescription": "Abdomen Venous 3mm",
    "BodyPartExamined": "ABDOMEN",
    "SliceThickness": "3",
}
RULE = {"name": "ct", "model": "liver", "to": "/box"}


@pytest.mark.parametrize(
    ("when", "fits"),
    [
        ({}, True),
        ({"modality": "CT"}, True),
        ({"modality": ["MR", "ct"]}, True),
        ({"modality": "MR"}, False),
        ({"description": "*venous*"}, True),
        ({"description": "venous"}, False),
        ({"body_part": "ABD*", "slices": {"min": 40}}, True),
        ({"slices": {"min": 41}}, False),
        ({"slices": {"max": 39}}, False),
        ({"slice_thickness_mm": {"min": 3, "max": 3}}, True),
        ({"slice_thickness_mm": {"max": 2.5}}, False),
        ({"tags": {"Modality": "C?"}}, True),
        ({"protocol": "*"}, True),
        ({"protocol": "?*"}, False),  # the series does not say it
    ],
)
def test_a_series_fits_where_all_conditions_hold(when: dict[str, Any], fits: bool) -> None:
    asked = When.model_validate(when)
    said = dict.fromkeys(asked.patterns(), "") | SAID
    assert asked.holds(said, 40) is fits


def test_a_thickness_that_is_not_said_or_no_number_fits_no_range() -> None:
    when = When.model_validate({"slice_thickness_mm": {"min": 0}})
    assert not when.holds({}, 9)
    assert not when.holds({"SliceThickness": "thin"}, 9)


def test_what_is_not_known_yet_rules_nothing_out() -> None:
    when = When.model_validate({"modality": "CT", "body_part": "LIVER"})
    assert when.may_hold({"Modality": "CT"})
    assert not when.may_hold({"Modality": "CT", "BodyPartExamined": "HEAD"})


def test_pauses_grow_and_end_at_an_hour() -> None:
    assert [Retry().pause_s(k) for k in (1, 2, 3, 4, 5, 8)] == [30, 120, 480, 1920, 3600, 3600]


@pytest.mark.parametrize(
    ("content", "error", "line"),
    [
        ([], DataError, "holds no rules"),
        ({"rules": []}, DataError, "rules: List should have at least 1 item"),
        ({"rules": [RULE], "rule": 1}, DataError, "rule: Extra inputs are not permitted"),
        ({"rules": [{"name": "ct", "to": "/box"}]}, DataError, "rules.0.model: Field required"),
        ({"rules": [RULE | {"when": {"modlity": "CT"}}]}, DataError, "rules.0.when.modlity: Extra inputs"),
        ({"rules": [RULE | {"when": {"tags": {"NoSuchTag": "1"}}}]}, DataError, "'NoSuchTag' is no keyword of DICOM"),
        ({"rules": [RULE, RULE]}, DataError, "two rules are called 'ct'"),
        ({"rules": [RULE | {"to": []}]}, DataError, "rules.0.to: List should have at least 1 item"),
        ({"rules": [RULE], "look": {"filters": {"Modalities": "CT"}}}, DataError, "'Modalities' is no keyword"),
        ({"rules": [RULE | {"model": "livr"}]}, UsageError, "no model 'livr' is served; did you mean 'liver'?"),
        ({"rules": [RULE | {"to": "pacs"}]}, UsageError, "sends to 'pacs': give its address with --pacs"),
    ],
)
def test_a_rule_file_that_is_wrong_is_one_line(
    tmp_path: Path, content: Any, error: type[FullscaleError], line: str
) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(error, match=r"^[^\n]*$") as caught:
        read_rules(path, ["liver"], None)
    assert line in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_file_without_the_rest_has_its_defaults(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"rules": [RULE | {"to": ["pacs", "A@b:1"]}], "look": None}))
    rules = read_rules(path, ["liver"], "A@b:1")
    assert (rules.look, rules.settle_s, rules.retry.times) == (None, 30.0, 8)
    assert rules.keywords() == {"SliceThickness"}
    assert isinstance(rules, Rules)
