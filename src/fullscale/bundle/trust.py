"""What a model's card says of when not to trust its masks: plain numbers, learned from cases that no training saw."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, model_validator


class _Plain(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ReliabilityBin(_Plain):
    """Voxels of similar probability, a point of a reliability diagram.

    Attributes:
        predicted: their mean probability.
        observed: share of them that the truth gives to the structure.
        share: of all voxels that are looked at.
    """

    predicted: float = Field(ge=0, le=1)
    observed: float = Field(ge=0, le=1)
    share: float = Field(ge=0, le=1)


class Calibration(_Plain):
    """How the probability of one structure is brought to what it claims to be.

    Attributes:
        temperature: by which its log-odds are divided; 0.5 stays 0.5.
        cases: validation cases that it was fitted on, each of which counts alike.
        ece_before: expected calibration error of the probabilities as the network gives them.
        ece_after: the same after calibration; measured on a fifth of the cases with the temperature of the others.
        before: reliability of the probabilities as they were.
        after: reliability with the temperature.
    """

    temperature: PositiveFloat
    cases: int = Field(ge=1)
    ece_before: float = Field(ge=0, le=1)
    ece_after: float = Field(ge=0, le=1)
    before: tuple[ReliabilityBin, ...] = ()
    after: tuple[ReliabilityBin, ...] = ()

    def describe(self, structure: str) -> str:
        """Say in a line what it does, and what that gave."""
        return (
            f"{structure}: temperature {self.temperature:.2f}, expected calibration error {self.ece_before:.4f} to "
            f"{self.ece_after:.4f} in {self.cases} cases"
        )


class Evaluated(_Plain):
    """How good expected Dice is, in cases that it was not learned from: each fifth by the other four.

    Attributes:
        spearman: rank correlation of expected and true Dice; None where one of them is the same in all cases.
        mean_error: mean absolute difference of the two.
        coverage: share of the cases whose true Dice lies in the interval.
        spread: mean absolute difference of true Dice from its own median: the error of a guess that knows no case.
    """

    spearman: float | None = Field(ge=-1, le=1)
    mean_error: float = Field(ge=0, le=1)
    coverage: float = Field(ge=0, le=1)
    spread: float = Field(ge=0, le=1)


class Quality(_Plain):
    """What gives the expected Dice of one structure: its soft Dice, what that is usually off by, and an interval.

    What it is off by is a linear model of a few features of the mask.

    Attributes:
        features: their names, in the order of the numbers below.
        mean: of each feature in the cases it was learned from.
        scale: standard deviation of each.
        weights: what is added to the soft Dice for each standard deviation of a feature.
        intercept: what is added where all features have their mean.
        interval: what is added to the expected Dice for the lower and the upper end, in parts of what it lacks of 1.
        level: share of new cases that the interval is to hold.
        review_below: expected Dice below which a case is to be looked at.
        present: share of the cases that hold the structure.
        cases: validation cases that it was learned from.
        evaluated: how good it is.
    """

    features: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[PositiveFloat, ...]
    weights: tuple[float, ...]
    intercept: float
    interval: tuple[float, float]
    level: float = Field(gt=0, lt=1)
    review_below: float
    present: float = Field(ge=0, le=1)
    cases: int = Field(ge=1)
    evaluated: Evaluated

    @model_validator(mode="after")
    def _numbers_for_each_feature(self) -> Quality:
        if {len(self.mean), len(self.scale), len(self.weights)} != {len(self.features)}:
            raise ValueError("expected a mean, a scale and a weight for each feature")
        return self

    def describe(self, structure: str) -> str:
        """Say in a line how good it is."""
        e = self.evaluated
        rank = "not defined" if e.spearman is None else f"{e.spearman:.2f}"
        return (
            f"{structure}: expected Dice off by {e.mean_error:.3f} on average, rank correlation {rank}, "
            f"{e.coverage:.0%} of {self.cases} held-out cases within the {self.level:.0%} interval"
        )


class Trust(_Plain):
    """What validation taught about when not to trust the masks of a model.

    Attributes:
        calibration: of each structure that was fitted, by its name.
        quality: what gives the expected Dice of each structure, by its name.
    """

    calibration: dict[str, Calibration] = {}
    quality: dict[str, Quality] = {}

    @property
    def is_empty(self) -> bool:
        """Whether nothing was learned."""
        return not (self.calibration or self.quality)

    def temperature(self, structure: str) -> float:
        """Return the temperature of a structure, 1 where none was fitted."""
        found = self.calibration.get(structure)
        return 1.0 if found is None else found.temperature
