"""An abdomen-like CT drawn from formulas: seeded, varied, and labelled as synthetic wherever it appears.

The anatomy is drawn in patient millimetres (RAS: x to the patient's right, y to the front, z to the head; the origin
lies in front of the spine, at the height of the liver's middle) and sampled on a grid whose spacing, orientation,
tilt and origin vary from case to case. Liver, spleen and kidneys are of one tissue class and touch: they differ by a
few HU only and must be told apart by place and shape, as in a real scan.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial.transform import Rotation

from fullscale.data.volume_files import write_volume
from fullscale.errors import UsageError
from fullscale.files import atomic_folder, atomic_path, require_no_file_in_the_way, write_json
from fullscale.geometry.orientation import reorient
from fullscale.geometry.volume import Affine, Volume
from fullscale.temporary import sweep

STRUCTURES = {1: "liver", 2: "spleen", 3: "right kidney", 4: "left kidney", 5: "liver tumour"}
TUMOUR = 5
"""Drawn in place of liver, and only where it is labelled."""

Layout = Literal["msd", "lits"]
LABELLED: dict[Layout, tuple[int, ...]] = {"msd": (1, 2), "lits": (1, TUMOUR)}
"""What each layout labels when nothing else is said, keys of `STRUCTURES`."""
LITS_TUMOUR = 2
"""Value of the tumour in a mask of LiTS."""
DESCRIPTION = "dataset.json"
NAME = "Phantom (synthetic)"
NOTE = "SYNTHETIC phantom, no patient"

Field = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Patient:
    """What varies from one phantom to the next: lengths in mm, intensities in HU."""

    half_width: float
    half_depth: float
    fat: float
    size: float
    tissue_hu: float
    contrast_hu: float
    noise_hu: float
    ripple: npt.NDArray[np.float64]

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Patient:
        """Draw a patient."""
        return cls(
            half_width=rng.uniform(140, 175),
            half_depth=rng.uniform(95, 125),
            fat=rng.uniform(10, 26),
            size=rng.uniform(0.9, 1.08),
            tissue_hu=rng.uniform(60, 110),
            contrast_hu=rng.uniform(0, 160),
            noise_hu=rng.uniform(10, 22),
            ripple=rng.uniform(-1, 1, (3, 3, 4)),
        )


class Body:
    """A patient's space at points in mm, warped by a smooth ripple so that no structure is a plain ellipsoid.

    `depth` is 0 on the long axis and 1 on the skin; muscle begins at `wall`, and structures lie in the `cavity`.
    """

    def __init__(self, points: Field, patient: Patient) -> None:
        self.x, self.y, self.z = points
        self.depth = np.sqrt((self.x / patient.half_width) ** 2 + (self.y / patient.half_depth) ** 2)
        self.wall = 1 - patient.fat / patient.half_depth
        self.cavity = self.depth < self.wall - 0.11
        self.spine_y = 46 - 98 / patient.size
        warped = points.copy()
        for axis in range(3):
            for wave in patient.ripple[axis]:
                phase = sum(w * p for w, p in zip(wave[:3] / 28, points, strict=True)) + np.float32(3.14 * wave[3])
                warped[axis] += np.float32(2.5) * np.sin(phase, dtype=np.float32)
        scale = patient.size * np.array([patient.half_width / 165, self.wall * patient.half_depth / 98, 1.0])
        self.points = warped / scale.astype(np.float32)[:, None, None, None]

    def ellipsoid(self, centre: tuple[float, float, float], radii: tuple[float, float, float]) -> Field:
        """Signed field, negative inside: 0 on the ellipsoid's surface, -1 at its centre."""
        squares = sum(
            ((p - np.float32(c)) / np.float32(r)) ** 2 for p, c, r in zip(self.points, centre, radii, strict=True)
        )
        return np.asarray(np.sqrt(squares) - 1, dtype=np.float32)

    def column(self, x: float, y: float, radius: float) -> npt.NDArray[np.bool_]:
        """An upright cylinder."""
        return np.asarray((self.points[0] - x) ** 2 + (self.points[1] - y) ** 2 < radius**2)


def make_case(
    seed: int,
    size: int = 128,
    slices: int = 48,
    structures: tuple[int, ...] = (1, 2),
    length_mm: float | None = None,
) -> tuple[Volume, Volume]:
    """Draw one scan (int16, HU) and its labels (uint8), both on one grid.

    Args:
        seed: the same seed gives the same case.
        size: voxels along each in-plane axis.
        slices: voxels along the head-foot axis.
        structures: keys of `STRUCTURES` to label; the others stay in the scan, unlabelled.
        length_mm: of the scan along the head-foot axis; by default drawn from 230 to 280.
    """
    if size < 16 or slices < 1:
        raise UsageError(f"a phantom needs at least 16 voxels a side and 1 slice, got {size} and {slices}")
    rng = np.random.default_rng(seed)
    patient = Patient.draw(rng)
    affine = _draw_grid(rng, patient, size, slices, length_mm)
    index = np.indices((size, size, slices), dtype=np.float32)
    points = np.tensordot(affine[:3, :3].astype(np.float32), index, axes=1)
    points += affine[:3, 3].astype(np.float32)[:, None, None, None]
    body = Body(points, patient)
    labels = _draw_structures(body)
    if TUMOUR in structures:
        _draw_tumours(body, labels, np.random.default_rng([seed, TUMOUR]))
    scan = _scan_noise(_draw_tissues(body, labels, patient, rng), patient, rng)
    kept = np.where(np.isin(labels, structures), labels, 0).astype(np.uint8)
    return _store(scan, kept, affine, rng)


def write_dataset(
    folder: Path,
    cases: int,
    seed: int = 0,
    test_cases: int = 0,
    layout: Layout = "msd",
    structures: tuple[int, ...] | None = None,
    replaceable: Collection[str] = (),
    **options: Any,
) -> Iterator[tuple[str, Volume]]:
    """Write phantoms as a data set, yielding each case's name and scan as it is written.

    "msd" is the Medical Segmentation Decathlon's layout. "lits" is that of LiTS, `volume-N.nii` with
    `segmentation-N.nii`, where 1 is liver and 2 tumour. Labels of the test cases go to `labelsTs`, which such data sets
    keep to themselves.

    The folder receives all of it or nothing. It must be empty, but for entries that are `replaceable`.

    Raises:
        UsageError: the folder holds something else, or "lits" is to hold other structures.
        OutputError: it cannot be written.
    """
    structures = structures or LABELLED[layout]
    if layout == "lits" and set(structures) != set(LABELLED["lits"]):
        raise UsageError("the layout of LiTS holds liver and tumour; leave the structures out, or choose msd")
    _require_own(folder, replaceable)
    names = [_name(number) for number in range(cases + test_cases)]
    with _drawn_whole(folder, *dataset_entries(cases, test_cases, layout)) as part:
        for number, name in enumerate(names):
            scan, labels = make_case(seed * 10_000 + number, structures=structures, **options)
            if layout == "lits":
                labels = labels.with_array(np.where(labels.array == TUMOUR, LITS_TUMOUR, labels.array).astype(np.uint8))
            image, truth = _files(layout, number, test=number >= cases)
            write_volume(part(image), scan, description=NOTE)
            write_volume(part(truth), labels, description=NOTE)
            yield name, scan
        if layout == "msd":
            write_json(part(Path(DESCRIPTION)), _describe(names[:cases], names[cases:], structures))


def dataset_entries(cases: int, test_cases: int = 0, layout: Layout = "msd") -> tuple[list[str], list[str]]:
    """Name the files and the folders that `write_dataset` puts into its folder."""
    files = _dataset_files(cases, test_cases, layout)
    entries = dict.fromkeys(file.parts[0] for file in files)
    single = [name for name in entries if Path(name) in files]
    return single, [name for name in entries if name not in single]


def _dataset_files(cases: int, test_cases: int, layout: Layout) -> list[Path]:
    """List every file of a data set; the one that says what it holds comes first."""
    pairs = (_files(layout, number, test=number >= cases) for number in range(cases + test_cases))
    return [*([Path(DESCRIPTION)] if layout == "msd" else []), *(file for pair in pairs for file in pair)]


@contextmanager
def _drawn_whole(folder: Path, single: Sequence[str], several: Sequence[str]) -> Iterator[Callable[[Path], Path]]:
    """Give each file of a data set a place from which it moves into the folder when the block ends well, first last."""
    with ExitStack() as stack:
        parts = {name: stack.enter_context(atomic_path(folder / name)) for name in single}
        parts |= {name: stack.enter_context(atomic_folder(folder / name)) for name in several}
        yield lambda file: parts[file.parts[0]].joinpath(*file.parts[1:])


def _require_own(folder: Path, replaceable: Collection[str]) -> None:
    """Refuse a folder for phantoms that holds something else than what may be replaced, or is a file.

    Raises:
        UsageError: it does.
    """
    require_no_file_in_the_way(folder)
    if not folder.exists():
        return
    sweep(folder)
    others = sorted(path.name for path in folder.iterdir() if path.name not in replaceable)
    if others:
        raise UsageError(f"{folder} is not empty: it holds {others[0]}; choose another folder for the phantoms")


def _name(number: int) -> str:
    return f"phantom_{number:03d}"


def _files(layout: Layout, number: int, test: bool) -> tuple[Path, Path]:
    """Where a case and its labels go within the folder."""
    if layout == "msd":
        part, name = "Ts" if test else "Tr", _name(number)
        return Path(f"images{part}", f"{name}.nii.gz"), Path(f"labels{part}", f"{name}.nii.gz")
    if test:
        return Path(f"test-volume-{number}.nii"), Path("labelsTs", f"test-segmentation-{number}.nii")
    return Path(f"volume-{number}.nii"), Path(f"segmentation-{number}.nii")


def _describe(train: list[str], test: list[str], structures: tuple[int, ...]) -> dict[str, Any]:
    return {
        "name": NAME,
        "description": f"{NOTE}: drawn by fullscale from formulas",
        "tensorImageSize": "3D",
        "modality": {"0": "CT"},
        "labels": {"0": "background"} | {str(o): STRUCTURES[o] for o in structures},
        "numTraining": len(train),
        "numTest": len(test),
        "training": [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in train],
        "test": [f"./imagesTs/{n}.nii.gz" for n in test],
    }


def _draw_grid(rng: np.random.Generator, patient: Patient, size: int, slices: int, length_mm: float | None) -> Affine:
    in_plane = 2.15 * patient.half_width / size * rng.uniform(1.0, 1.12)
    affine = np.eye(4)
    tilt = Rotation.from_euler("xyz", rng.uniform(-3, 3, 3), degrees=True).as_matrix()
    drawn_mm = rng.uniform(230, 280)
    affine[:3, :3] = tilt @ np.diag([in_plane, in_plane, (length_mm or drawn_mm) / slices])
    middle = np.array([size / 2, size / 2, slices / 2])
    centre = np.array([rng.uniform(-8, 8), rng.uniform(-8, 8), rng.uniform(-30, 5)])
    affine[:3, 3] = centre - affine[:3, :3] @ middle
    return affine


def _draw_structures(body: Body) -> npt.NDArray[np.uint8]:
    right_lobe = body.ellipsoid((72, 5, 5), (68, 72, 74))
    left_lobe = body.ellipsoid((12, 42, 18), (70, 34, 38))
    liver = np.minimum(right_lobe, left_lobe) < 0
    spleen = (body.ellipsoid((-98, -38, 12), (30, 46, 48)) < 0) & (body.ellipsoid((-62, -8, 12), (34, 36, 60)) > 0)
    labels = np.zeros(body.z.shape, dtype=np.uint8)
    back = body.spine_y + 10
    for side, value in ((1, 3), (-1, 4)):
        kidney = body.ellipsoid((side * 60, back, -48 + 6 * side), (27, 27, 52)) < 0
        pelvis = body.ellipsoid((side * 38, back + 8, -48 + 6 * side), (17, 13, 22)) < 0
        labels[kidney & ~pelvis] = value
    labels[spleen] = 2
    labels[liver] = 1
    labels[~body.cavity] = 0
    return labels


def _draw_tumours(body: Body, labels: npt.NDArray[np.uint8], rng: np.random.Generator) -> None:
    """Put one to three balls of 8 to 18 mm radius into the liver."""
    liver = np.argwhere(labels == 1)
    for _ in range(rng.integers(1, 4) if len(liver) else 0):
        centre = body.points[:, *rng.choice(liver)]
        radius = rng.uniform(8, 18)
        labels[(np.linalg.norm(body.points - centre[:, None, None, None], axis=0) < radius) & (labels == 1)] = TUMOUR


def _draw_tissues(body: Body, labels: npt.NDArray[np.uint8], patient: Patient, rng: np.random.Generator) -> Field:
    x, y, z = body.x, body.y, body.z
    hu = np.full(z.shape, -1000, dtype=np.float32)
    hu[body.depth < 1] = -100
    hu[body.depth < body.wall] = 55
    bowel = _texture(z.shape, rng)
    hu[body.cavity] = np.where(bowel, 35, -95)[body.cavity]
    gas = _texture(z.shape, rng) & bowel & body.cavity & (z < -40) & (y > 20)
    hu[gas] = -900
    dome = 46 + 42 * np.exp(-(((x - 55) / 85) ** 2) - ((y - 10) / 80) ** 2)
    hu[body.cavity & (z > dome)] = -830
    hu[(body.ellipsoid((-58, 38, 30), (42, 34, 44)) < 0) & body.cavity] = 30
    hu[(body.ellipsoid((-58, 56, 34), (28, 12, 30)) < 0) & body.cavity] = -920
    _draw_bones(hu, body)
    hu[body.column(-8, body.spine_y + 32, 11)] = 45 + patient.contrast_hu
    hu[body.column(16, body.spine_y + 34, 12)] = 45 + 0.6 * patient.contrast_hu
    for value, offset in ((1, 0.0), (2, 8.0), (3, 16.0), (4, 16.0), (TUMOUR, -40.0)):
        hu[labels == value] = patient.tissue_hu + offset
    vessels = _texture(z.shape, rng, share=0.06) & (labels == 1)
    hu[vessels] += 0.25 * patient.contrast_hu
    return hu


def _draw_bones(hu: Field, body: Body) -> None:
    ribs = (np.abs((body.z - 0.45 * body.y) % 32 - 16) < 5.5) & (np.abs(body.depth - body.wall + 0.06) < 0.035)
    hu[ribs & (body.z > -55)] = 520
    vertebra = body.column(0, body.spine_y, 20)
    disc = (body.z % 34) < 7
    hu[vertebra] = np.where(disc, 90, 210)[vertebra]
    hu[vertebra & ~body.column(0, body.spine_y, 17) & ~disc] = 480
    across, front, _ = body.points
    hu[(np.abs(across) < 20) & (np.abs(front - body.spine_y + 28) < 6) & ~disc] = 430
    hu[body.column(0, body.spine_y - 23, 7)] = 30


def _texture(shape: tuple[int, ...], rng: np.random.Generator, share: float = 0.45) -> npt.NDArray[np.bool_]:
    coarse = rng.normal(size=[max(2, n // 6) for n in shape])
    smooth = ndimage.zoom(coarse, [n / c for n, c in zip(shape, coarse.shape, strict=True)], order=1)
    return np.asarray(smooth > np.quantile(smooth, 1 - share))


def _scan_noise(hu: Field, patient: Patient, rng: np.random.Generator) -> npt.NDArray[np.int16]:
    blurred = ndimage.gaussian_filter(hu, (0.6, 0.6, 0.3))
    grain = ndimage.gaussian_filter(rng.normal(size=hu.shape).astype(np.float32), (0.7, 0.7, 0))
    return np.asarray(np.clip(blurred + patient.noise_hu * grain / grain.std(), -1024, 3071).round(), dtype=np.int16)


def _store(
    scan: npt.NDArray[np.int16],
    labels: npt.NDArray[np.uint8],
    affine: npt.NDArray[np.float64],
    rng: np.random.Generator,
) -> tuple[Volume, Volume]:
    codes = [str(rng.choice(list(pair))) for pair in ("LR", "PA", "IS")]
    order = (0, 1, 2) if rng.random() < 0.7 else tuple(rng.permutation(3))
    orientation = "".join(codes[axis] for axis in order)
    return reorient(Volume(scan, affine), orientation), reorient(Volume(labels, affine), orientation)
