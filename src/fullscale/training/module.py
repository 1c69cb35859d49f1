"""What happens in a step: the network, its loss and its optimiser as Lightning calls them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import lightning
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fullscale.config.schema import OptimizerConfig
from fullscale.data.cache import PreparedCase
from fullscale.data.labels import IGNORED, LabelScheme
from fullscale.ending import UNASKED, Ending
from fullscale.errors import FullscaleError
from fullscale.inference.runtimes.torch import TorchRuntime
from fullscale.losses.supervision import SupervisedLoss, SupervisedTerms
from fullscale.metrics.overlap import overlap_counts
from fullscale.networks.protocol import Network, SegmentationOutput
from fullscale.training.group import ALONE, Group
from fullscale.training.optimizers import create_optimizer
from fullscale.views.protocol import View


class SegmentationModule(lightning.LightningModule):
    """A network in training.

    Args:
        network: gives a `SegmentationOutput` or logits in training and logits `[B, C, H, W]` or `[B, C, D, H, W]` in
            evaluation.
        loss: of all supervised outputs and of presence.
        optimizer: which one; its rate is set by the `Budget`.
        scheme: what the channels stand for.
        view: how the network is shown a whole case.
        validation: prepared cases, told apart by their index.
        group: the processes that train together.
        ending: who may ask to end early: then the rest of a validation is left out, and it has no scores.
    """

    def __init__(
        self,
        network: Network,
        loss: SupervisedLoss,
        optimizer: OptimizerConfig,
        scheme: LabelScheme,
        view: View,
        validation: Sequence[PreparedCase],
        group: Group = ALONE,
        ending: Ending = UNASKED,
    ) -> None:
        super().__init__()
        two_dimensional = network.spatial_dims == 2  # a convolution on a CPU likes its channels last there
        self.network = network.to(memory_format=torch.channels_last) if two_dimensional else network
        self.loss = loss
        self.optimizer_config = optimizer
        self.scheme = scheme
        self.view = view
        self.validation = list(validation)
        self.group = group
        self.ending = ending
        self.dice_by_case: dict[str, list[float]] = {}

    def training_step(self, batch: tuple[Tensor, ...], _: int) -> Tensor:
        """One batch of images `[B, C, H, W]` and class indices `[B, H, W]`, or of three dimensions.

        Where not every structure was drawn in every case, whether it was follows, `[B, structures]`.
        """
        image, target, *rest = batch
        known = rest[0] if rest else None
        output = self.network(image)
        loss: SupervisedTerms = self.loss(output, target, known)
        if not torch.isfinite(loss.total):
            raise FullscaleError(
                f"the loss became {loss.total.item()} at step {self.global_step}; the last good checkpoint is kept. "
                "Lower optimizer.learning_rate or optimizer.clip_norm, or train with trainer.precision=32"
            )
        self._log("loss", loss.total)
        if isinstance(output, SegmentationOutput) and output.presence is not None:
            predicted_present = output.presence.argmax(dim=-1).bool()
            truth, told = self.loss.presence_of(target, known, output.logits[0].shape[1])
            right = ((predicted_present == truth) & told).float().sum()
            self._log("presence_accuracy", right / told.sum().clamp_min(1))
            self._log("presence_loss", loss.presence)
        return loss.total

    def validation_step(self, index: int, _: int) -> None:
        """One whole case: Dice of each structure on the grid that the network sees, as far as the truth is known.

        An index beyond the last case is a place that another process of several fills.
        """
        if index >= len(self.validation) or self.ending.asked:
            return
        case = self.validation[index]
        runtime = TorchRuntime(self.network)
        logits = self.view.maps(runtime.logits, case.image, runtime.device)
        predicted = np.concatenate([self.scheme.decide(batch).to(torch.uint8).cpu().numpy() for batch in logits])
        dice = dice_per_structure(predicted, case.label, self.scheme.membership)
        self.dice_by_case[case.id] = [math.nan if k in case.unknown else score for k, score in enumerate(dice)]

    def on_validation_epoch_start(self) -> None:
        """Forget the scores of the epoch before."""
        self.dice_by_case = {}

    def on_validation_epoch_end(self) -> None:
        """Average over cases; a structure that neither truth nor prediction holds in a case is not scored there."""
        everywhere = {case: dice for share in self.group.gather(self.dice_by_case) for case, dice in share.items()}
        if len(everywhere) < len(self.validation):
            return
        scores = np.array([everywhere[case.id] for case in self.validation], dtype=float)
        counted = (~np.isnan(scores)).sum(axis=0)
        per_structure = np.nansum(scores, axis=0) / np.maximum(counted, 1)
        for name, dice in zip(self.scheme.structures.values(), per_structure, strict=True):
            self.log(f"val_dice_{name}", float(dice), rank_zero_only=True)
        mean = float(per_structure[counted > 0].mean()) if (counted > 0).any() else 0.0
        self.log("val_dice", mean, prog_bar=True, rank_zero_only=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimiser over all parameters."""
        return create_optimizer(self.optimizer_config, self.parameters())

    def _log(self, name: str, value: Tensor) -> None:
        self.log(name, value.detach(), prog_bar=True, sync_dist=True)  # the mean over all processes


def dice_per_structure(predicted: Any, truth: Any, membership: npt.NDArray[np.bool_]) -> list[float]:
    """Dice of each structure of two class-index arrays, where the truth is known; NaN where both are empty.

    Args:
        predicted: class indices.
        truth: likewise, `IGNORED` where nothing is known.
        membership: `[structures, classes]` whether each structure is made of each class.
    """
    truth = np.asarray(truth)
    ignored = truth == IGNORED
    members = {k: np.flatnonzero(of).tolist() for k, of in enumerate(membership, start=1)}
    counts = overlap_counts(predicted, truth, list(members), members, ignored if ignored.any() else None)
    return [math.nan if count.dice is None else count.dice for count in counts]
