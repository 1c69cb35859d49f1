"""The commands that made a run, as far as its folder records them."""

from __future__ import annotations

import shlex

from fullscale.bundle.weights import DIGEST_OF_WEIGHTS
from fullscale.config.load import flatten, load_config
from fullscale.reporting.model_card.facts import Facts
from fullscale.runfolder import ALL, TOGETHER

_HEAD = """\
# What made this model. Of its data the run keeps digests, and not where they lie: DATA stands for their folder or list.
# config.yaml and plan.json are those in the folder run/ beside this file.
"""


def commands_of(facts: Facts) -> str:
    """Write the commands that make the model again, a line each, with the reservations that one must know."""
    places = facts.places
    folds = [fold.name for fold in places.scored]
    words = ["fullscale", "train", "DATA", "-o", "again", "--fold", ",".join(folds)]
    run = places.run
    notes = [f"# DATA: {facts.data.name or 'not named'}, SHA-256 of its used cases {facts.data.digest}"]
    if places.kept is None:
        words += ["--plan", "run/plan.json", "--config", "run/config.yaml"]
    else:
        views = {"slices", "patches"} if places.kept == TOGETHER else {places.kept}
        notes.append(f"# Of --views slices,patches, this was kept: {' and '.join(sorted(views))}.")
        notes.append(
            f"# Settings are not in the line below: {run.path.name}/config.yaml in the folder run/ holds them all."
        )
        words += ["--views", "slices,patches"]
    if facts.data.left_out:
        words.append("--drop-bad-cases")
    if run.config.is_file():
        settings = flatten(load_config(run.config))
        for key, value in settings.items():
            if isinstance(value, str) and value.startswith(DIGEST_OF_WEIGHTS):
                notes.append(f"# WEIGHTS: those that training started from, {value}")
                words.append(f"{key}=WEIGHTS")
        if not settings.get("trainer.deterministic"):
            notes.append("# Without trainer.deterministic=true the weights come out a little different each time.")
        if settings.get("trainer.max_minutes") is not None:
            notes.append("# Its budget is a time: a quicker machine trains for more steps.")
    if folds == [ALL]:
        notes.append("# Every case was trained on.")
    return (
        "\n".join([_HEAD.rstrip("\n"), *notes, shlex.join(words), "fullscale report again", "fullscale card again"])
        + "\n"
    )
