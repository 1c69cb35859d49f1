"""The losses once more, as loops in float64 NumPy, written from the formulas and slow."""

import math

import numpy as np

C1, C2 = 0.01**2, 0.03**2
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def class_probabilities(logits):
    """`[B, C, *size]` logits to the probabilities of all classes; one class gets its background in front."""
    out = []
    for image in logits:
        if len(image) == 1:
            structure = 1 / (1 + np.exp(-image[0]))
            out.append([1 - structure, structure])
        else:
            powers = np.exp(image - image.max(axis=0))
            out.append(powers / powers.sum(axis=0))
    return np.array(out)


def pixels(target):
    """The index of every pixel, `(b, place)`, of slices or patches."""
    return [(b, place) for b in range(target.shape[0]) for place in np.ndindex(*target.shape[1:])]


def focal(logits, target, gamma=2.0, alpha=None):
    p = class_probabilities(logits)
    terms = []
    for b, place in pixels(target):
        true = int(target[b][place])
        weight = 1.0 if alpha is None else (alpha if true > 0 else 1 - alpha)
        terms.append(-weight * (1 - p[b, true][place]) ** gamma * math.log(p[b, true][place]))
    return sum(terms) / len(terms)


def cross_entropy(logits, target):
    p = class_probabilities(logits)
    return -sum(math.log(p[b, int(target[b][place])][place]) for b, place in pixels(target)) / target.size


def iou(logits, target, smooth=1.0):
    p = class_probabilities(logits)
    losses = []
    for b in range(p.shape[0]):
        for c in range(1, p.shape[1]):
            above = below = smooth
            for _, place in pixels(target[b : b + 1]):
                g = 1.0 if target[b][place] == c else 0.0
                above += p[b, c][place] * g
                below += p[b, c][place] + g - p[b, c][place] * g
            losses.append(1 - above / below)
    return sum(losses) / len(losses)


def dice(logits, target, smooth=1.0, batch_dice=False):
    p = class_probabilities(logits)
    groups = [range(p.shape[0])] if batch_dice else [[b] for b in range(p.shape[0])]
    losses = []
    for group in groups:
        for c in range(1, p.shape[1]):
            above = below = smooth
            for b in group:
                for _, place in pixels(target[b : b + 1]):
                    g = 1.0 if target[b][place] == c else 0.0
                    above += 2 * p[b, c][place] * g
                    below += p[b, c][place] + g
            losses.append(1 - above / below)
    return sum(losses) / len(losses)


def ms_ssim(logits, target, variant="paper", window=11, sigma=1.5, weights=WEIGHTS):
    p = class_probabilities(logits)
    losses = []
    for b in range(p.shape[0]):
        for c in range(1, p.shape[1]):
            truth = np.where(target[b] == c, 1.0, 0.0)
            losses.append(1 - ms_ssim_of_maps(p[b, c], truth, variant, window, sigma, weights))
    return sum(losses) / len(losses)


def ms_ssim_of_maps(p, g, variant="paper", window=11, sigma=1.5, weights=WEIGHTS, floor=1e-5):
    if min(p.shape) < window:
        odd = max(n for n in range(1, min(p.shape) + 1, 2))
        sigma, window = sigma * odd / window, odd
    scales = [(p, g)]
    while len(scales) < len(weights):
        smaller = tuple(halve(x) for x in scales[-1])
        if min(smaller[0].shape) < window:
            break
        scales.append(smaller)
    used = weights[: len(scales)]
    used = [w * sum(weights) / sum(used) for w in used]
    product, shortfall = 1.0, 0.0
    for m, (pm, gm) in enumerate(scales):
        luminance, structure = compare(pm, gm, window, sigma)
        if variant == "paper":
            means = [luminance.mean(), structure.mean()]
        elif m < len(scales) - 1:
            means = [structure.mean()]
        else:
            means = [(luminance * structure).mean()]
        for mean in means:
            product *= max(mean, floor) ** used[m]
            shortfall += used[m] * max(floor - mean, 0.0)
    return product - shortfall


def compare(p, g, window, sigma):
    """Luminance and contrast-structure in every window that lies inside the maps, of two or three axes."""
    half = window // 2
    weight = np.zeros((window,) * p.ndim)
    for place in np.ndindex(*weight.shape):
        weight[place] = math.exp(-sum((i - half) ** 2 for i in place) / (2 * sigma**2))
    weight /= weight.sum()
    positions = [side - window + 1 for side in p.shape]
    luminance, structure = np.empty(positions), np.empty(positions)
    for place in np.ndindex(*positions):
        inside = tuple(slice(i, i + window) for i in place)
        a, b = p[inside], g[inside]
        mu_a, mu_b = (weight * a).sum(), (weight * b).sum()
        var_a, var_b = (weight * (a - mu_a) ** 2).sum(), (weight * (b - mu_b) ** 2).sum()
        covariance = (weight * (a - mu_a) * (b - mu_b)).sum()
        luminance[place] = (2 * mu_a * mu_b + C1) / (mu_a**2 + mu_b**2 + C1)
        structure[place] = (2 * covariance + C2) / (var_a + var_b + C2)
    return luminance, structure


def halve(x):
    """Mean of 2x2(x2) pixels; of what there is of them at an odd edge."""
    half = np.empty([-(-side // 2) for side in x.shape])
    for place in np.ndindex(*half.shape):
        half[place] = x[tuple(slice(2 * i, 2 * i + 2) for i in place)].mean()
    return half
