"""Commands that the long form alone runs are commands all the same: an option that was renamed is noticed here."""

import pytest

from tests.faults.works import FURTHER, READERS, WITH_WORKERS, WORKS, Work
from tests.words import read_by_the_command

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("work", [*WORKS, *FURTHER, *READERS, *WITH_WORKERS], ids=lambda work: work.name)
def test_the_words_of_each_work_are_read_by_the_command(work: Work) -> None:
    read_by_the_command([word.replace("{", "").replace("}", "") for word in work.words])
