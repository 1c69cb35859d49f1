"""What is done to a mask after it was decided, as the card of a model records it: the rule, and why it was chosen."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, model_validator

from fullscale.bundle.trust import Trust

Action = Literal["keep_largest", "keep_largest_of_all", "drop_small", "fill_holes"]


class Evidence(BaseModel):
    """What validation said of a rule: mean Dice of the structure over the cases that score it, without and with it.

    Attributes:
        dice_before: without the rule.
        dice_after: with it.
        cases: how many cases the means are over.
        better: cases whose Dice the rule raises.
        worse: cases whose Dice it lowers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    dice_before: float = Field(ge=0, le=1)
    dice_after: float = Field(ge=0, le=1)
    cases: int = Field(ge=1)
    better: int = Field(ge=0)
    worse: int = Field(ge=0)


class PostprocessRule(BaseModel):
    """One rule for one structure of a mask. Parts are connected through faces, edges and corners.

    Attributes:
        structure: its name.
        action: `keep_largest` keeps its largest part; `keep_largest_of_all` what of it lies in the largest part of all
            structures together; `drop_small` drops its parts that are smaller than `minimum_ml`; `fill_holes` gives it
            the background that it encloses.
        minimum_ml: of `drop_small` alone.
        evidence: why it was chosen; None for a rule that somebody wrote.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    structure: str
    action: Action
    minimum_ml: PositiveFloat | None = None
    evidence: Evidence | None = None

    @model_validator(mode="after")
    def _a_size_for_what_takes_one(self) -> PostprocessRule:
        if (self.minimum_ml is None) == (self.action == "drop_small"):
            raise ValueError("expected minimum_ml with drop_small, and with nothing else")
        return self

    @property
    def what(self) -> str:
        """What it does, for people."""
        does = {
            "keep_largest": "largest part kept",
            "keep_largest_of_all": "what lies in the largest part of all structures kept",
            "drop_small": f"parts under {self.minimum_ml:g} ml dropped" if self.minimum_ml else "",
            "fill_holes": "holes filled",
        }
        return f"{self.structure}: {does[self.action]}"

    def describe(self) -> str:
        """Say what it does and what that gave, for people."""
        if self.evidence is None:
            return self.what
        e = self.evidence
        return f"{self.what} (Dice {e.dice_before:.4f} to {e.dice_after:.4f} in {e.cases} cases)"


class ChosenRules(BaseModel):
    """What validation chose for the model of a run.

    Attributes:
        members: digest of the model of each fold whose validation cases were looked at, by its name.
        rules: those that help; empty where none does.
        trust: what they taught about when not to trust a mask; None where nothing was kept to learn from.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    members: dict[str, str]
    rules: tuple[PostprocessRule, ...] = ()
    trust: Trust | None = None

    @property
    def learned(self) -> Trust | None:
        """What was learned for the model's card; None where that is nothing."""
        return None if self.trust is None or self.trust.is_empty else self.trust
