"""What is searched is read at once, and refused in one line before anything runs."""

from pathlib import Path

import pytest

from fullscale.errors import UsageError
from fullscale.search.search import load_search
from fullscale.search.space import DEFAULT, Range, Values, dimensions, parse_words


def test_values_and_ranges_are_searched_and_one_value_holds_for_all() -> None:
    space, settings = parse_words(
        [
            *("network.width=8,16,32", "optimizer.learning_rate=1e-4..1e-2:log", "data.batch_size=2..8"),
            *("data.patch_size=[32,32],[48,48]", "data.foreground_fraction=0.2..0.8:0.2", "loss.name=ce+dice,hybrid"),
            *("trainer.seed=4", "network.init=../run", "data.labels={1: liver, 2: liver}"),
        ]
    )
    searched = dimensions(space)
    assert searched == [
        Values("network.width", (8, 16, 32)),
        Range("optimizer.learning_rate", 1e-4, 1e-2, log=True),
        Range("data.batch_size", 2, 8),
        Values("data.patch_size", ([32, 32], [48, 48])),
        Range("data.foreground_fraction", 0.2, 0.8, step=0.2),
        Values("loss.name", ("ce+dice", "hybrid")),
    ]
    assert settings == {
        "trainer.seed": 4,
        "network.init": "../run",
        "data.labels": {1: "liver", 2: "liver"},
    }
    assert isinstance(searched[2].samples[0], int)


def test_a_file_says_the_same(tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text("network: {width: [8, 16]}\noptimizer.learning_rate: 1e-4..1e-2:log\n")
    words = ["network.width=8,16", "optimizer.learning_rate=1e-4..1e-2:log"]
    assert load_search(file, [], steps_each=4).dimensions == dimensions(parse_words(words)[0])


def test_where_nothing_is_said_the_default_is_searched_but_for_what_is_set() -> None:
    search = load_search(None, ["loss.name=dice"], steps_each=4)
    assert search.space == {key: values for key, values in DEFAULT.items() if key != "loss.name"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["network.widht=8,16"], "network 'unet3+' has no option 'widht'; did you mean 'width'?"),
        (["optimiser.learning_rate=1..2"], "unknown setting 'optimiser'"),
        (["network.width=8,wide"], "network.width='wide': Input should be a valid integer"),
        (["data.foreground_fraction=0.5..1.5"], "data.foreground_fraction=1.5: Input should be less than or equal"),
        (["loss.name=ce+dice,hybird"], "loss 'hybird' is unknown; did you mean 'hybrid'?"),
        (["network.name=unet3+,unet", "network.skip_channels=8,16"], "no option 'skip_channels'"),
        (["network.width=8,8"], "network.width: 8 stands twice"),
        (["optimizer.learning_rate=1e-2..1e-4"], "the range 1e-2..1e-4 is none"),
        (["optimizer.learning_rate=0..1:log"], "expected a positive number up to a larger one"),
        (["network.width=8..16:32"], "the steps of 8..16:32"),
        (["trainer.max_minutes=1,2"], "trainer.max_minutes must be the same for all trials"),
        (["data.folds=3,5"], "data.folds must be the same for all trials"),
        (["trainer.max_epochs=3", "network.width=8,16"], "trainer.max_epochs is the budget"),
        (["network.width=8", "network.width=8,16"], "network.width is given twice"),
        (
            ["loss.name=dice", "optimizer.learning_rate=0.1", "data.foreground_fraction=1"],
            "all that is searched by default is set",
        ),
    ],
)
def test_what_cannot_be_searched_is_refused_in_a_line(words: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_search(None, words, steps_each=4)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("network.width: 8\n", "network.width: 8 is one value, which leaves nothing to search"),
        ("network.width: [8]\n", "network.width: one value leaves nothing to search"),
        ("- 8\n", "must hold settings, each with its values"),
    ],
)
def test_a_file_with_one_value_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(text)
    with pytest.raises(UsageError, match=message):
        load_search(tmp_path / "space.yaml", [], steps_each=4)


def test_a_word_after_the_option_of_the_file_is_told_where_it_belongs() -> None:
    with pytest.raises(UsageError, match=r"is no file: write it as a setting"):
        load_search(Path("network.width=8,16"), [], steps_each=4)


def test_minutes_or_steps_one_of_the_two() -> None:
    with pytest.raises(UsageError, match="give every trial minutes_each or steps_each"):
        load_search(None, ["network.width=8,16"])
