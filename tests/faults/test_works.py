"""Commands that the long form alone runs are commands all the same: an option that was renamed is noticed here."""

import pytest
from typer.main import get_command

from fullscale.cli.app import app
from tests.faults.works import FURTHER, READERS, WITH_WORKERS, WORKS, Work
from tests.words import read_by_the_command

pytestmark = pytest.mark.faults

ALL = [*WORKS, *FURTHER, *READERS, *WITH_WORKERS]
ELSEWHERE = {"gather", "status", "send", "serve", "letters"}
"""Verbs that the page names as left out: they read, or are a service with tests of its own."""


def test_every_verb_is_among_them() -> None:
    assert {work.words[0] for work in ALL} | ELSEWHERE == set(get_command(app).commands)


@pytest.mark.parametrize("work", ALL, ids=lambda work: work.name)
def test_the_words_of_each_work_are_read_by_the_command(work: Work) -> None:
    read_by_the_command([word.replace("{", "").replace("}", "") for word in work.words])
