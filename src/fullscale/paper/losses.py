"""The losses of the paper on one example that can be followed by hand, and its Dice.

The example: a disc of 60 pixels radius in a slice of 320x320, and a prediction of the same disc 8 pixels to the right,
with a probability of 0.9 inside and 0.1 outside.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fullscale.losses.dice import DiceLoss
from fullscale.losses.focal import FocalLoss
from fullscale.losses.hybrid import HybridLoss
from fullscale.losses.iou import IoULoss
from fullscale.losses.ms_ssim import C1, C2, MSSSIMLoss, scale_means
from fullscale.losses.supervision import presence_loss
from fullscale.metrics.overlap import overlap_counts
from fullscale.paper.formula import Formula
from fullscale.scoring.tables import Table, name_cell, number_cell

SIDE, RADIUS, SHIFT, SURE = 320, 60, 8, 0.9

EXAMPLE = (
    f"The example of all losses: the truth is a disc of {RADIUS} pixels radius in a slice of {SIDE}x{SIDE}; the "
    f"prediction is the same disc {SHIFT} pixels to the right, with a probability of {SURE} inside and "
    f"{1 - SURE:.1f} outside."
)


class _Parts(NamedTuple):
    """Pixels of the example: in both discs, in the prediction alone, in the truth alone, in neither."""

    both: int
    invented: int
    missed: int
    neither: int


class Example:
    """The maps of the example, and the counts that the formulas need of them."""

    def __init__(self) -> None:
        place = torch.arange(SIDE, dtype=torch.float64) - (SIDE - 1) / 2
        rows, columns = place[:, None], place[None, :]
        self.truth = rows**2 + columns**2 <= RADIUS**2
        self.predicted = rows**2 + (columns - SHIFT) ** 2 <= RADIUS**2
        sign = 2 * self.predicted.to(torch.float64) - 1
        self.logits = (sign * math.log(SURE / (1 - SURE)))[None, None]  # [1, 1, H, W], float64
        self.target = self.truth.long()[None]  # [1, H, W]

    @cached_property
    def parts(self) -> _Parts:
        """Count the pixels by what they are."""
        pairs = ((True, True), (True, False), (False, True), (False, False))
        return _Parts(*(int(((self.predicted == p) & (self.truth == g)).sum()) for p, g in pairs))

    @property
    def masses(self) -> tuple[float, float, float]:
        """Return the sums of p g, of p, and of g."""
        both, invented, missed, neither = self.parts
        low = 1 - SURE
        return SURE * both + low * missed, SURE * (both + invented) + low * (missed + neither), float(both + missed)

    def of(self, loss: torch.nn.Module) -> float:
        """Return what a loss says of the example."""
        return float(loss(self.logits, self.target))


def loss_formulas() -> list[Formula]:
    """Write the losses of section 2.2 and 2.3 with their numbers, and the Dice of the tables."""
    example = Example()
    parts = [_focal(example), _ms_ssim(example), _iou(example)]
    return [*parts, _hybrid(example, parts), _presence(), _dice_loss(example), _dice(example)]


def _focal(example: Example) -> Formula:
    loss = FocalLoss()
    both, invented, missed, neither = example.parts
    right, wrong, pixels = both + neither, invented + missed, SIDE * SIDE

    def of(p: float) -> float:
        return -math.pow(1 - p, loss.gamma) * math.log(p)

    return Formula(
        title="Focal loss, of pixels",
        source="section 2.2; Lin et al. 2017",
        tex=r"\ell_{fl} = -\frac{1}{n}\sum\,\alpha_t\,(1-p_t)^\gamma\,\log p_t",
        text="l_fl = -mean α_t (1 - p_t)^γ log p_t,   p_t the probability of the true class",
        numbers=[
            f"{right:,} pixels are right: (1 - {SURE})^{loss.gamma:g} · -log {SURE} = {of(SURE):.6f} each",
            f"{wrong:,} pixels are wrong: (1 - {1 - SURE:.1f})^{loss.gamma:g} · -log {1 - SURE:.1f} = "
            f"{of(1 - SURE):.6f} each",
            f"({right:,} · {of(SURE):.6f} + {wrong:,} · {of(1 - SURE):.6f}) / {pixels:,}",
        ],
        by_formula=(right * of(SURE) + wrong * of(1 - SURE)) / pixels,
        by_module=example.of(loss),
        module="FocalLoss",
        note=(
            f"The paper states neither γ nor α. Here γ is {loss.gamma:g}, Lin's choice, and α is left out (loss.alpha "
            "sets it): Lin's 0.25 was chosen for detection and makes masks too small."
        ),
    )


def _ms_ssim(example: Example) -> Formula:
    loss = MSSSIMLoss()
    logits, truth = example.logits, example.truth[None, None].to(torch.float64)
    means, powers = scale_means(logits.sigmoid(), truth, loss.variant, loss.window, loss.sigma, loss.weights)
    values = [float(mean) for mean in means]
    factors = [value**power for value, power in zip(values, powers, strict=True)]
    rows = []
    for scale in range(len(values) // 2):
        luminance, structure = values[2 * scale : 2 * scale + 2]
        factor = factors[2 * scale] * factors[2 * scale + 1]
        side = math.ceil(SIDE / 2**scale)
        numbers = [number_cell(number, ".4f") for number in (luminance, structure, powers[2 * scale], factor)]
        rows.append([name_cell(str(scale + 1)), name_cell(f"{side}x{side}"), *numbers])
    return Formula(
        title="MS-SSIM loss, of patches",
        source="section 2.2; Wang et al. 2003",
        tex=(
            r"\ell_{ms-ssim} = 1-\prod_{m=1}^{M}\left(\frac{2\mu_p\mu_g+C_1}{\mu_p^2+\mu_g^2+C_1}\right)^{\beta_m}"
            r"\left(\frac{2\sigma_{pg}+C_2}{\sigma_p^2+\sigma_g^2+C_2}\right)^{\gamma_m}"
        ),
        text="l_ms-ssim = 1 - Π_m [(2μpμg + C1) / (μp² + μg² + C1)]^β_m · [(2σpg + C2) / (σp² + σg² + C2)]^γ_m",
        numbers=[
            f"M = {len(rows)}, C1 = {C1:g}, C2 = {C2:g}, β = γ = {', '.join(f'{weight:g}' for weight in loss.weights)}",
            f"1 - {' · '.join(row[-1].text for row in rows)}",
        ],
        by_formula=1 - math.prod(factors),
        by_module=example.of(loss),
        module="MSSSIMLoss",
        note=(
            "The paper's luminance stands at every scale, Wang's at the coarsest alone (loss.variant=wang). The window "
            f"is not stated: a Gaussian of {loss.window} pixels with deviation {loss.sigma:g}, as Wang's. A negative "
            "mean has no power; the loss goes on in a straight line there."
        ),
        table=Table(["scale", "pixels", "mean luminance", "mean contrast-structure", "exponent", "factor"], rows),
    )


def _iou(example: Example) -> Formula:
    loss = IoULoss()
    product, predicted, true = example.masses
    union, smooth = predicted + true - product, loss.smooth
    share = (1 - SURE) * example.parts.neither / union
    return Formula(
        title="IoU loss, of maps",
        source="section 2.2; Máttyus et al. 2017",
        tex=r"\ell_{iou} = 1-\frac{\sum p\,g}{\sum (p+g-p\,g)}",
        text="l_iou = 1 - Σ p g / Σ (p + g - p g)",
        numbers=[
            f"Σ p g = {product:,.1f}, Σ p = {predicted:,.1f}, Σ g = {true:,.0f}",
            f"1 - ({product:,.1f} + {smooth:g}) / ({union:,.1f} + {smooth:g})",
        ],
        by_formula=1 - (product + smooth) / (union + smooth),
        by_module=example.of(loss),
        module="IoULoss",
        note=(
            f"{smooth:g} pixel is added above and below the line (loss.smooth), so that two empty maps have the loss "
            f"0. The background, with a probability of {1 - SURE:.1f}, is {share:.0%} of the union here."
        ),
    )


def _hybrid(example: Example, parts: list[Formula]) -> Formula:
    loss = HybridLoss()
    weighted = [weight * part.by_formula for weight, part in zip(loss.weights, parts, strict=True)]
    return Formula(
        title="Hybrid loss",
        source="section 2.2",
        tex=r"\ell_{seg} = \ell_{fl}+\ell_{ms-ssim}+\ell_{iou}",
        text="l_seg = l_fl + l_ms-ssim + l_iou",
        numbers=[" + ".join(f"{value:.6f}" for value in weighted)],
        by_formula=sum(weighted),
        by_module=example.of(loss),
        module="HybridLoss",
        note="loss.name=hybrid. The three weigh the same, as in the paper; loss.weights sets others.",
    )


def _presence() -> Formula:
    absent, present = -0.5, 1.5
    sigmoid = 1 / (1 + math.exp(absent - present))
    logits = torch.tensor([[[absent, present]]] * 2, dtype=torch.float64)  # [B, structures, 2]
    told = float(presence_loss(logits, torch.tensor([[True], [False]])))
    return Formula(
        title="Classification loss of the guidance",
        source="section 2.3",
        tex=r"\ell_{cls} = -\frac{1}{n}\sum\,[\,y\,\log p + (1-y)\,\log(1-p)\,]",
        text="l_cls = -mean [y log p + (1 - y) log(1 - p)],   y whether the slice holds the organ",
        numbers=[
            f"two slices with the logits {absent:g} for absent and {present:g} for present: p = σ({present:g} - "
            f"({absent:g})) = {sigmoid:.6f}",
            f"the first holds the organ: -log {sigmoid:.6f} = {-math.log(sigmoid):.6f}",
            f"the second does not: -log (1 - {sigmoid:.6f}) = {-math.log(1 - sigmoid):.6f}",
        ],
        by_formula=-(math.log(sigmoid) + math.log(1 - sigmoid)) / 2,
        by_module=told,
        module="presence_loss",
        note=(
            "p is the sigmoid of present less absent, whose sign is the arg-max that gates. In training it is weighed "
            "by loss.presence_weight beside the segmentation loss: 1 in the paper, 0.1 here unless it is set."
        ),
    )


def _dice_loss(example: Example) -> Formula:
    loss = DiceLoss()
    product, predicted, true = example.masses
    smooth = loss.smooth
    return Formula(
        title="Dice loss, of the rivals",
        source="not in the paper",
        tex=r"\ell_{dice} = 1-\frac{2\sum p\,g}{\sum p+\sum g}",
        text="l_dice = 1 - 2 Σ p g / (Σ p + Σ g)",
        numbers=[f"1 - (2 · {product:,.1f} + {smooth:g}) / ({predicted:,.1f} + {true:,.0f} + {smooth:g})"],
        by_formula=1 - (2 * product + smooth) / (predicted + true + smooth),
        by_module=example.of(loss),
        module="DiceLoss",
        note="With cross-entropy it is the default here (loss.name=ce+dice).",
    )


def _dice(example: Example) -> Formula:
    both, invented, missed, _ = example.parts
    [counts] = overlap_counts(_labels(example.predicted), _labels(example.truth), [1])
    assert counts.dice is not None
    return Formula(
        title="Dice, of masks",
        source="section 3.1",
        tex=r"Dice = \frac{2\,|P\cap G|}{|P|+|G|}",
        text="Dice = 2 |P ∩ G| / (|P| + |G|)",
        numbers=[f"2 · {both:,} / ({both + invented:,} + {both + missed:,}), of the masks at a probability of 0.5"],
        by_formula=2 * both / (2 * both + invented + missed),
        by_module=counts.dice,
        module="fullscale evaluate",
        note="In the tables it is taken over a whole scan, and averaged over scans. A structure that is missed has 0.",
    )


def _labels(mask: Tensor) -> npt.NDArray[np.uint8]:
    return mask.numpy().astype(np.uint8)
