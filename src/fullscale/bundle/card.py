"""The card of a model: what it is, and how scans are brought to it. One card for a model, one for an ensemble."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, field_validator, model_validator

from fullscale.bundle.rules import PostprocessRule
from fullscale.bundle.trust import Trust
from fullscale.data.distribution import Distribution
from fullscale.data.labels import Algorithm, LabelScheme
from fullscale.data.recipe import Mirror, Recipe
from fullscale.documents import read_json, validated
from fullscale.errors import DataError, UsageError
from fullscale.networks import NETWORKS, create_network, list_networks

if TYPE_CHECKING:
    from fullscale.networks.protocol import Network

CARD = "model.json"
MODEL_CARD = "MODEL_CARD.md"
"""The same for people, beside it."""
SHORT = 12
"""Characters of a digest by which people tell models apart."""

VERSION_CHARACTERS = 64
"""Longest version of an algorithm that DICOM takes."""


class _Card(BaseModel):
    """What the cards of a model and of an ensemble share.

    Attributes:
        labels: structure of each value in the masks that it was trained on, background included. Values that share a
            name are merged, and values without a name are background.
        regions: values that each structure is made of, where structures overlap, in the order of the channels.
        region_order: value that each region is written as.
        ignore: value of which nothing was known in the masks that it was trained on, or None.
        modality: what it was trained on, such as `"CT"`.
        postprocess: what is done to its masks, as validation chose it.
        trust: what validation taught about when not to trust them; None where nothing was learned.
        provenance: data set, fold, scores, versions: for people, not read back.
    """

    model_config = ConfigDict(extra="forbid")

    format: Literal[2] = 2
    labels: dict[int, str]
    regions: dict[str, tuple[PositiveInt, ...]] = {}
    region_order: tuple[PositiveInt, ...] = ()
    ignore: PositiveInt | None = None
    modality: str
    postprocess: tuple[PostprocessRule, ...] = ()
    trust: Trust | None = None
    provenance: dict[str, Any] = {}

    @field_validator("labels")
    @classmethod
    def _with_structures(cls, labels: dict[int, str]) -> dict[int, str]:
        if min(labels, default=0) < 0 or not LabelScheme(labels).structures:
            raise ValueError("expected the name of at least one structure, by its value from 1")
        return labels

    @model_validator(mode="after")
    def _regions_fit(self) -> Self:
        try:
            _ = self.scheme
        except UsageError as error:
            raise ValueError(str(error)) from error
        return self

    @model_validator(mode="after")
    def _postprocess_of_its_structures(self) -> Self:
        unknown = [rule.structure for rule in self.postprocess if rule.structure not in self.structures.values()]
        if unknown:
            raise ValueError(
                f"postprocess is for {unknown[0]!r}, expected one of {', '.join(self.structures.values())}"
            )
        return self

    @model_validator(mode="after")
    def _trust_of_its_structures(self) -> Self:
        known = {} if self.trust is None else {**self.trust.calibration, **self.trust.quality}
        unknown = [name for name in known if name not in self.structures.values()]
        if unknown:
            raise ValueError(f"trust is for {unknown[0]!r}, expected one of {', '.join(self.structures.values())}")
        return self

    @property
    def scheme(self) -> LabelScheme:
        """What label values and channels stand for."""
        return LabelScheme(self.labels, self.regions, self.region_order, self.ignore)

    @property
    def structures(self) -> dict[int, str]:
        """Value and name of each structure in the masks it makes, in the order of the classes."""
        return self.scheme.structures

    @property
    def digest(self) -> str:
        """SHA-256 of the card's content, which names the weights by theirs.

        Files that the model was exported to are no part of it, nor are fields that say nothing, so that a card has the
        same digest in a later version that knows more of them.
        """
        content = self.model_dump_json(exclude={"exported"}, exclude_defaults=True)
        return hashlib.sha256(content.encode()).hexdigest()


class ModelCard(_Card):
    """What one model is and how scans are brought to it.

    Attributes:
        network: a name that `create_network` knows.
        options: its further arguments.
        package: that offers the network; None for one of ours.
        recipe: what is done to a scan first.
        tile_size: slices, rows and columns of the patches that it was trained on, in which it is shown a scan; None for
            a model of slices.
        tile_overlap: of neighbouring tiles, as a share of their sides.
        mirrors: mirror images that it is shown as well, and whose answers are averaged with the first.
        trained_on: content digest of each case that it was trained on, by the case's name.
        distribution: what those cases were like; None where it is not known.
        weights_sha256: digest of the file of weights, which `save_bundle` fills in; None for a model of 0.1.
        exported: digest of each file it was exported to, by suffix, in the card that lies beside those.
    """

    network: str
    options: dict[str, Any] = {}
    package: str | None = None
    recipe: Recipe
    tile_size: tuple[PositiveInt, PositiveInt, PositiveInt] | None = None
    tile_overlap: float = Field(0.5, ge=0, le=0.9)
    mirrors: tuple[Mirror, ...] = ()
    trained_on: dict[str, str] = {}
    distribution: Distribution | None = None
    weights_sha256: str | None = None
    exported: dict[str, str] = {}

    @model_validator(mode="after")
    def _shown_as_trained(self) -> ModelCard:
        if (self.tile_size is None) != (self.recipe.view == "slices"):
            raise ValueError("expected tile_size with patches, and with patches alone")
        if self.recipe.view == "slices" and "head-foot" in self.mirrors:
            raise ValueError("slices have no mirror image from head to foot")
        return self

    @property
    def algorithm(self) -> Algorithm:
        """How masks name the model that made them: the network, this package's version, a digest of the card."""
        return Algorithm(f"fullscale {self.network}", f"{version('fullscale')} model {self.digest[:SHORT]}")

    def build(self) -> Network:
        """Create the network, with fresh weights.

        Raises:
            UsageError: the package of the network is not installed, offers another network by now, or is not one that
                a model may import.
        """
        NETWORKS.require_trusted(self.network)
        if self.package is not None and ":" not in self.network and self.network not in list_networks():
            raise UsageError(
                f"the model's network '{self.network}' is of the package '{self.package}', which is not installed "
                "here: install it to use the model"
            )
        return create_network(self.network, self.recipe.in_channels, self.scheme.channels, **self.options)


def is_member_name(name: str) -> bool:
    """Tell whether a name can be that of a member's folder, within the ensemble's."""
    return bool(name) and name == Path(name).name and not name.startswith(".") and name.isprintable()


class MemberRecord(BaseModel):
    """What an ensemble's card says of a member, whose bundle is the subfolder of its name.

    Attributes:
        network: its network's name.
        digest: of its card.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    network: str
    digest: str


class EnsembleCard(_Card):
    """What an ensemble is: several models of the same structures, whose probabilities are averaged.

    Attributes:
        members: each by its name, which is its subfolder's too.
    """

    members: dict[str, MemberRecord] = Field(min_length=1)

    @field_validator("members")
    @classmethod
    def _named_as_folders(cls, members: dict[str, MemberRecord]) -> dict[str, MemberRecord]:
        for name in members:
            if not is_member_name(name):
                raise ValueError(f"the member name {name!r:.80} cannot be a folder's name")
        return members

    @property
    def algorithm(self) -> Algorithm:
        """How masks name the ensemble: its networks, this package's version, a digest, and its members."""
        networks = ", ".join(sorted({member.network for member in self.members.values()}))
        of = f"{version('fullscale')} ensemble {self.digest[:SHORT]}"
        named = f"{of}: {' '.join(self.members)}"
        return Algorithm(
            f"fullscale {networks}",
            named if len(named) <= VERSION_CHARACTERS else f"{of} of {len(self.members)}",
            {name: f"{member.network} model {member.digest[:SHORT]}" for name, member in self.members.items()},
        )


Card = ModelCard | EnsembleCard


def read_card(path: Path) -> Card:
    """Read the card of a model or of an ensemble. A model's card of 0.1 (format 1) is read as one of today.

    Raises:
        DataError: it is not there, or not a card of this version.
    """
    values = read_json(path, "the model card")
    source = f"{path} is not a model card of this version"
    if not isinstance(values, dict):
        raise DataError(f"{source}: its text is a JSON {type(values).__name__}, expected an object")
    values = _from_format_1(values) if values.get("format") == 1 else values
    if "members" in values:
        return validated(EnsembleCard, values, source)
    return validated(ModelCard, values, source)


def _from_format_1(values: dict[str, Any]) -> dict[str, Any]:
    """Bring a card of 0.1 up to date: it named the structures and the labels they came from apart, and counted both."""
    kept = {key: value for key, value in values.items() if key not in ("format", "classes", "trained_labels")}
    return kept | {"labels": values.get("trained_labels") or values.get("labels")}


EXPORTED = (".onnx", ".xml")
"""Suffixes of exported models that scans can be segmented with."""


def is_exported(path: Path) -> bool:
    """Tell an exported model from a run or a bundle."""
    return path.suffix in EXPORTED and not path.is_dir()


def card_beside(model: Path) -> Path:
    """Return where the card of an exported model lies: `liver.json` for `liver.onnx`."""
    return model.with_suffix(".json")
