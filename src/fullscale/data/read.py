"""One door for every scan and every mask: a volume file, an image, a DICOM folder, or the PNG masks of CHAOS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from fullscale.data.case import Case
from fullscale.data.dicom.headers import is_dicom_file, is_seg
from fullscale.data.dicom.series import Study, read_series, read_series_grid
from fullscale.data.dicom.stack import DicomReadOptions
from fullscale.data.dicom.store import is_zip
from fullscale.data.image_files import holds_colours, image_grid, is_picture, read_colours
from fullscale.data.labels import LabelScheme
from fullscale.data.mask_images import Colours, read_mask_image, unite
from fullscale.data.nifti import stored_step
from fullscale.data.png_stack import png_masks, read_png_stack
from fullscale.data.slicer import read_slicer, slicer_segments
from fullscale.data.structure_files import read_structures, structure_files
from fullscale.data.volume_files import read_frames, read_volume, smallest_integer_type, volume_stem, volume_suffix
from fullscale.errors import DataError, GeometryError
from fullscale.geometry.resample import resample_image
from fullscale.geometry.volume import Volume, describe_mismatch

SCALED_LABELS = "the label map holds scaled integers, off by less than half a step: rounded to whole numbers"
"""Note of a label map that was saved from floats with an integer type in its header, as nibabel does."""
NEARLY_WHOLE_LABELS = "the label map holds numbers that are nearly whole, such as 0.99999997: rounded to whole numbers"
"""Note of a label map of floats that arithmetic has left a little beside the whole numbers."""

RESAMPLE_REMEDY = "data.resample_channels=true brings them onto the first (predict: --resample-channels)"
"""What to do about channels on other grids."""

_MOST_ROUNDING = 0.1
_FLOAT_ROUNDING = 1e-3
"""How far from a whole number a float may be. Between two causes: float32 is off by less up to 8000, and a border that
was anti-aliased or interpolated holds shares of at least 1/255, which are no labels."""
_SUFFIXES = (".dcm", ".dicom", ".ima", ".zip")
"""What is taken off a name besides the suffix of a volume, in lower case."""


def read_image(path: Study, options: DicomReadOptions | None = None) -> Volume:
    """Read a scan from a volume file, or from a DICOM study: a folder, a zip, or its files.

    Args:
        path: a volume file, a folder of DICOM slices or of series, a zip of them, one DICOM file, or several.
        options: which series, and which remedies; they concern DICOM alone.

    Returns:
        Voxels `[X, Y, Z]`, CT in HU; affine RAS+ mm.

    Raises:
        DataError: the path is missing or cannot be read; see `read_volume` and `read_series`.
    """
    if isinstance(path, str | Path) and not _is_study(Path(path)):
        return read_volume(path)
    return read_series(path, options)


def read_shown(path: Study) -> Volume | list[Volume]:
    """Read what a picture shows of a scan: its grey values, or red, green and blue.

    Raises:
        DataError: see `read_image`.
    """
    return read_colours(path) if isinstance(path, str | Path) and holds_colours(path) else read_image(path)


def read_channels(
    files: Mapping[str, Study], options: DicomReadOptions | None = None, resample: bool = False
) -> dict[str, Volume]:
    """Read the channels of a case, which lie on one grid.

    Args:
        files: of each channel, by name; where all are one volume file, it holds them along its fourth axis, in their
            order.
        options: how DICOM is read, and which series is which channel.
        resample: bring channels on other grids onto that of the first, by linear interpolation; their notes say so.

    Raises:
        DataError: a file is missing or cannot be read, or holds another number of channels.
        GeometryError: a channel lies on another grid than the first, both are told; or on one that is elsewhere.
    """
    [source, *further] = dict.fromkeys(files.values())
    if len(files) > 1 and not further and isinstance(source, Path) and not _is_study(source):
        return dict(zip(files, read_frames(source, len(files)), strict=True))
    found: dict[str, Volume] = {}
    for name, file in files.items():
        try:
            found[name] = read_image(file, options.of_channel(name) if options is not None else None)
        except DataError as error:
            raise error if len(files) == 1 else type(error)(f"channel {name}: {error}") from error
    return on_one_grid(found, resample)


def on_one_grid(channels: Mapping[str, Volume], resample: bool = False) -> dict[str, Volume]:
    """Return channels on the grid of the first.

    Args:
        channels: by name.
        resample: bring those on other grids onto it; see `read_channels`.

    Raises:
        GeometryError: a channel lies on another grid and is not to be resampled, or cannot be.
    """
    (first, grid), *others = channels.items()
    found = {first: grid}
    for name, volume in others:
        mismatch = describe_mismatch(grid, volume)
        if mismatch is None:
            found[name] = volume
            continue
        text = f"channels {first} and {name} lie on different grids: {mismatch}"
        if not resample:
            raise GeometryError(f"{text}; {RESAMPLE_REMEDY}")
        try:
            moved = resample_image(volume, grid)
        except GeometryError as error:
            raise GeometryError(f"{text}; {error}") from error
        found[name] = replace(moved, notes=(*moved.notes, f"channel {name} was resampled onto the grid of {first}"))
    return found


def read_truth(case: Case, scheme: LabelScheme | None = None) -> Volume:
    """Read the label map of a case from all of its files; the scheme is that of `read_label`.

    Where nothing is drawn in the case, it is 0 everywhere on the grid of the scan.

    Raises:
        DataError: see `read_label`; or two masks give a pixel different labels.
        GeometryError: the masks differ in size.
    """
    assert case.label is not None
    named = set(case.structures if scheme is None else scheme.structures.values())
    absent = named & set(case.labelled or ()) if case.structures else set()
    if case.empty or (absent and not named & case.structures.keys()):
        grid = _read_grid(case.first)
        return grid.with_array(np.zeros(grid.shape, np.uint8))
    if case.structures:
        return read_structures(case.structures, scheme, partial(read_label, image_path=case.first))
    label = read_label(case.label, case.first, scheme, case.colours, case.by_name)
    if not case.masks:
        return label
    others = [read_label(file, case.first, scheme, case.colours) for file in case.masks]
    return unite([case.label, *case.masks], [label, *others])


def read_label(
    path: str | Path,
    image_path: Study,
    scheme: LabelScheme | None = None,
    colours: Colours | None = None,
    by_name: bool = False,
) -> Volume:
    """Read a label map from a volume file, an image, a segmentation of DICOM or 3D Slicer, or a folder of masks.

    A folder holds the PNG masks of CHAOS, or one volume file a structure, called after it.

    Args:
        path: the label map.
        image_path: the scan it belongs to, or a mask on its grid; a PNG folder and a DICOM SEG, which may store a few
            slices only, take their grid from there. A DICOM SEG that is its own image lies on its own grid.
        scheme: what values stand for, where structures are told by their names, or overlap.
        colours: value of each colour of an image.
        by_name: give segments the values that the scheme has for their names, whatever their numbers are.

    Returns:
        Integers `[X, Y, Z]`, 0 for background, whatever number type the file has. That it lies on the scan's grid is
        not checked here.

    Raises:
        DataError: the path is missing or cannot be read, or holds values that are no whole numbers.
    """
    path, image_path = Path(path), Path(image_path) if isinstance(image_path, str) else image_path
    if files := structure_files(path):
        return read_structures(files, scheme, _read_label_file, f"{path}: ")
    if path.is_dir():
        if not png_masks(path):
            raise DataError(f"{path}: holds no mask; give a file, a folder of PNG masks, or one of a file a structure")
        return read_png_stack(path, read_series_grid(image_path))
    if volume_suffix(path) is None and is_dicom_file(path):
        from fullscale.data.dicom.seg import read_seg  # of an extra, which scans do without

        return read_seg(path, None if path == image_path else _read_grid(image_path), scheme, by_name)
    if slicer_segments(path):
        return read_slicer(path, None if path == image_path else _read_grid(image_path), scheme, by_name)
    if is_picture(path):
        return read_mask_image(path, None if path == image_path else _read_grid(image_path), colours)
    return _read_label_file(path)


def _read_label_file(path: Path) -> Volume:
    label = read_volume(path)
    return label if label.array.dtype.kind in "iu" else _whole_numbers(path, label)


def _whole_numbers(path: Path, label: Volume) -> Volume:
    """Turn a label map of floats into integers; where the file scales integers, half a step is rounding too."""
    step = stored_step(label) or 0.0
    allowed = min(step / 2, _MOST_ROUNDING) + _FLOAT_ROUNDING
    whole = np.rint(label.array)
    with np.errstate(invalid="ignore"):
        off = np.abs(label.array - whole)
    broken = ~(off <= allowed)  # NaN too
    if broken.any():
        values = ", ".join(f"{v:.6g}" for v in np.unique(label.array[broken])[:5])
        raise DataError(
            f"{path}: labels are whole numbers, found {values} in {int(broken.sum())} voxels; where it was "
            "interpolated or anti-aliased, make it anew with the nearest neighbour"
        )
    rounded = label.with_array(whole.astype(smallest_integer_type(whole)))
    note = NEARLY_WHOLE_LABELS if step == 0 else SCALED_LABELS
    return replace(rounded, notes=(*label.notes, note)) if off.any() else rounded


def label_name(path: str | Path) -> str | None:
    """Return the name of the case that a file may be the label map of: `case_1` for `case_1.nii.gz` or a DICOM SEG."""
    path = Path(path)
    try:
        return stem_of(path) if volume_suffix(path) or is_seg(path) else None
    except DataError:  # damaged DICOM: reading it says why
        return stem_of(path)


def stem_of(path: str | Path) -> str:
    """Return a name without its suffix, where that is one of a volume or of DICOM: `1.2.840` stays `1.2.840`."""
    name = volume_stem(path)
    suffix = Path(name).suffix.lower()
    return name[: -len(suffix)] if suffix in _SUFFIXES else name


def _read_grid(image: Study) -> Volume:
    if isinstance(image, str | Path) and not _is_study(Path(image)):
        return image_grid(image) if is_picture(image) else read_volume(image)
    return read_series_grid(image)


def _is_study(path: Path) -> bool:
    """Tell a DICOM study, be it a folder, a zip or one multi-frame file, from a volume file."""
    return path.is_dir() or is_zip(path) or (volume_suffix(path) is None and is_dicom_file(path))
