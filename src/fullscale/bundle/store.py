"""A trained model as one folder, all that prediction needs, and no pickle.

A bundle of one model holds `model.json` (its card) and `model.safetensors` (its weights). A bundle of an ensemble holds
`model.json` and a subfolder for each member, a whole bundle of one model each, so that it can be copied anywhere.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from fullscale.bundle.card import CARD, Card, EnsembleCard, MemberRecord, ModelCard, is_member_name, read_card
from fullscale.bundle.rules import PostprocessRule
from fullscale.bundle.trust import Trust
from fullscale.errors import DataError, UsageError
from fullscale.files import atomic_folder, write_text
from fullscale.networks.protocol import Network
from fullscale.runfolder import RunFolder
from fullscale.text import first_line, one_line

WEIGHTS = "model.safetensors"
ALONE = "model"
"""Name of the member of a bundle of one model."""

UNKNOWN = ("unknown", "")
"""Modalities that say nothing."""


@dataclass(frozen=True)
class Member:
    """One model of a bundle.

    Attributes:
        name: of its subfolder in an ensemble; "model" where it is alone.
        card: what it is.
        network: with its weights, in evaluation mode, on the CPU.
    """

    name: str
    card: ModelCard
    network: Network


@dataclass(frozen=True)
class Bundle:
    """A trained model: one member, or an ensemble of several.

    Attributes:
        card: what it is.
        members: its models, at least one.
    """

    card: Card
    members: tuple[Member, ...]


def save_bundle(folder: Path, card: ModelCard, state: Mapping[str, Tensor], keep: Sequence[str] = ()) -> None:
    """Write the bundle of one model; an older one in its place is replaced only when the new one is whole.

    Args:
        folder: where to.
        card: what the model is; the digest of its weights is written into the file's card.
        state: the network's state dict.
        keep: names of files of the older bundle that stay.

    Raises:
        FullscaleError: the folder cannot be written.
    """
    with atomic_folder(folder) as temporary:
        write_safetensors(temporary / WEIGHTS, state)
        digest = file_sha256(temporary / WEIGHTS)
        _write_card(temporary, card.model_copy(update={"weights_sha256": digest}))
        _keep_files(folder, temporary, keep)


def save_ensemble(
    folder: Path,
    members: Mapping[str, Path],
    postprocess: Sequence[PostprocessRule] = (),
    trust: Trust | None = None,
    keep: Sequence[str] = (),
) -> None:
    """Write a bundle whose members are copies of bundles of one model; an older one is replaced when it is whole.

    Args:
        folder: where to.
        members: the bundle (or the fold of a run that holds it) of each member, by a name that becomes a subfolder's.
        postprocess: what is done to its masks; that of the members is not.
        trust: what is known of when not to trust them.
        keep: names of files of the older bundle that stay.

    Raises:
        UsageError: there are no members, a name cannot be a folder's, a member is an ensemble itself, or the members
            were trained on different labels or modalities.
        DataError: a member holds no model.
        FullscaleError: the folder cannot be written.
    """
    sources = {name: find_bundle(path) for name, path in members.items()}
    cards = {name: single_card(source) for name, source in sources.items()}
    for name, single in cards.items():
        require_weights(sources[name], single)
    card = _ensemble_card(cards).model_copy(update={"postprocess": tuple(postprocess), "trust": trust})
    with atomic_folder(folder) as temporary:
        for name, source in sources.items():
            (temporary / name).mkdir()
            _copy_files(source, temporary / name)
        _write_card(temporary, card)
        _keep_files(folder, temporary, keep)


def copy_bundle(
    source: Path,
    folder: Path,
    postprocess: Sequence[PostprocessRule] | None = None,
    trust: Trust | None = None,
    keep: Sequence[str] = (),
) -> None:
    """Copy the bundle of one model; an older one in its place is replaced when the copy is whole.

    Args:
        source: the bundle.
        folder: where to.
        postprocess: what is done to the masks of the copy; None is what the source says, of trust too.
        trust: what is known of when not to trust them.
        keep: names of files of the older bundle that stay.

    Raises:
        DataError: there is no model.
        UsageError: it is an ensemble.
        FullscaleError: the folder cannot be written.
    """
    card = single_card(source)
    require_weights(source, card)
    with atomic_folder(folder) as temporary:
        _copy_files(source, temporary)
        if postprocess is not None:
            _write_card(temporary, card.model_copy(update={"postprocess": tuple(postprocess), "trust": trust}))
        _keep_files(folder, temporary, keep)


def find_bundle(path: Path) -> Path:
    """Return the bundle at `path`, which is one, or is a run folder or the folder of a fold that holds one.

    Raises:
        DataError: there is none.
    """
    for folder in (path, RunFolder(path).bundle):
        if (folder / CARD).is_file():
            return folder
    if not path.exists():
        raise DataError(f"{path} does not exist; give a run folder, or a folder with {CARD} and {WEIGHTS}")
    if path.is_file():
        raise DataError(f"{path} holds no model that is read here; give a run folder, a bundle, an .onnx or an .xml")
    raise DataError(f"{path} holds no model ({CARD} and {WEIGHTS}); has its training finished an epoch?")


def load_bundle(path: Path) -> Bundle:
    """Load a bundle, the bundle of a run (all its folds) or that of one fold, its networks in evaluation mode (CPU).

    Raises:
        DataError: no model is there, or it is damaged or of a newer format.
    """
    folder = find_bundle(path)
    card = read_card(folder / CARD)
    if isinstance(card, ModelCard):
        return Bundle(card, (Member(ALONE, card, _load_network(folder, card)),))
    return Bundle(card, tuple(_load_member(folder, card, name) for name in card.members))


def member_folders(folder: Path) -> dict[str, Path]:
    """Return the folder of each member of a bundle, by name; a bundle of one model is its own member, "model".

    Raises:
        DataError: its card cannot be read.
    """
    card = read_card(folder / CARD)
    return {ALONE: folder} if isinstance(card, ModelCard) else {name: folder / name for name in card.members}


def read_cards(path: Path) -> tuple[Card, list[ModelCard]]:
    """Read the card of a bundle, a run or a fold, and those of its members, without their weights.

    Raises:
        DataError: there is no model, or a card cannot be read.
        UsageError: a member is an ensemble itself.
    """
    folder = find_bundle(path)
    return read_card(folder / CARD), [single_card(member) for member in member_folders(folder).values()]


def load_state(folder: Path, card: ModelCard) -> dict[str, Tensor]:
    """Read the weights of a bundle of one model, and check that they are those it was written with.

    Raises:
        DataError: they are missing or damaged.
    """
    path = folder / WEIGHTS
    require_weights(folder, card)
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"cannot read the weights {path}: {first_line(error)}") from error


def require_weights(folder: Path, card: ModelCard) -> None:
    """Refuse weights that are not those that a bundle of one model was written with.

    Raises:
        DataError: they are missing, or their bytes have changed.
    """
    path = folder / WEIGHTS
    if card.weights_sha256 not in (None, file_sha256(path)):
        raise DataError(f"cannot read the weights {path}: the file has changed since it was written; copy it again")


def require_whole(path: Path) -> None:
    """Refuse a bundle, or that of a run or a fold, whose members or weights are not those that its cards name.

    Raises:
        DataError: they are not, or there is no model.
        UsageError: a member is an ensemble itself.
    """
    folder = find_bundle(path)
    card = read_card(folder / CARD)
    for name, member in member_folders(folder).items():
        require_weights(member, single_card(member) if isinstance(card, ModelCard) else _card_of(folder, card, name))


def single_card(folder: Path) -> ModelCard:
    """Read the card of a bundle of one model, whose weights must be there.

    Raises:
        DataError: the card cannot be read, or there are no weights.
        UsageError: it is an ensemble.
    """
    card = read_card(folder / CARD)
    if not isinstance(card, ModelCard):
        raise UsageError(f"{folder} is an ensemble itself: expected the bundle of one model as a member")
    if not (folder / WEIGHTS).is_file():
        raise DataError(f"cannot read the weights {folder / WEIGHTS}: no such file")
    return card


def write_safetensors(path: Path, state: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write weights so that whoever may read other new files may read them; safetensors' own writer lets no one."""
    path.write_bytes(save({key: value.detach().cpu().contiguous() for key, value in state.items()}, metadata))


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, read in pieces.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"cannot read {path}: {one_line(error)}") from error


def _load_member(folder: Path, card: EnsembleCard, name: str) -> Member:
    member = _card_of(folder, card, name)
    return Member(name, member, _load_network(folder / name, member))


def _card_of(folder: Path, card: EnsembleCard, name: str) -> ModelCard:
    member = single_card(folder / name)
    if member.digest != card.members[name].digest:
        raise DataError(f"{folder / name / CARD} is not the member that {folder / CARD} names; copy the bundle again")
    return member


def _load_network(folder: Path, card: ModelCard) -> Network:
    state = load_state(folder, card)
    try:
        with torch.device("meta"), _NoDraws():  # takes no memory, whatever width a damaged card asks for
            expected = card.build().state_dict()
        for name, value in expected.items():
            if name in state and state[name].shape != value.shape:
                shapes = f"{list(state[name].shape)}, not {list(value.shape)}"
                raise DataError(f"{folder / WEIGHTS} does not fit the network in {CARD}: {name} is {shapes}")
        network = card.build()
        network.load_state_dict(state)
    except UsageError as error:
        raise UsageError(f"{folder / CARD}: {error}") from error
    except RuntimeError as error:
        first = (str(error).splitlines()[1:] or [first_line(error)])[0].strip()
        raise DataError(f"{folder / WEIGHTS} does not fit the network in {CARD}: {first}") from error
    return network.eval()


_DRAWS = (
    *(nn.init.normal_, nn.init.uniform_, nn.init.kaiming_normal_, nn.init.kaiming_uniform_, nn.init.trunc_normal_),
    Tensor.normal_,
)


class _NoDraws(TorchFunctionMode):
    """Leaves out draws of first weights: on the meta device, which holds none, torch loads its compiler for each."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if func in _DRAWS:
            return args[0] if args else given["tensor"]
        return func(*args, **given)


def _copy_files(source: Path, folder: Path) -> None:
    for file in (CARD, WEIGHTS):
        shutil.copyfile(source / file, folder / file)


def _keep_files(old: Path, new: Path, names: Sequence[str]) -> None:
    for name in names:
        if (old / name).is_file():
            shutil.copyfile(old / name, new / name)


def _ensemble_card(cards: Mapping[str, ModelCard]) -> EnsembleCard:
    if not cards:
        raise UsageError("an ensemble of no members: expected the bundle of at least one model")
    for name in cards:
        if not is_member_name(name):
            raise UsageError(f"member name {name!r} cannot be a folder's name; choose one such as 'fold_0'")
    (first, lead), *others = cards.items()
    for name, card in others:
        if not card.scheme.agrees_with(lead.scheme):
            raise UsageError(
                f"members {first} and {name} segment different labels, {lead.labels} and {card.labels}: "
                "expected the same in every member of an ensemble"
            )
    known = sorted({card.modality for card in cards.values()} - set(UNKNOWN))
    if len(known) > 1:
        raise UsageError(f"the members were trained on {' and '.join(known)}: expected one modality in an ensemble")
    return EnsembleCard(
        labels=lead.labels,
        regions=lead.regions,
        region_order=lead.region_order,
        ignore=lead.ignore,
        modality=known[0] if known else lead.modality,
        members={name: MemberRecord(network=card.network, digest=card.digest) for name, card in cards.items()},
        provenance={"dataset": lead.provenance.get("dataset")},
    )


def _write_card(folder: Path, card: Card) -> None:
    write_text(folder / CARD, card.model_dump_json(indent=2) + "\n")
