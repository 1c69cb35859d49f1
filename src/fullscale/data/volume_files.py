"""Volumes in files: NIfTI through nibabel; NRRD and MetaImage through SimpleITK.

Inside, every affine is RAS+ mm and every array `[X, Y, Z]` in stored order; SimpleITK's LPS+ is converted here.
"""

from __future__ import annotations

import contextlib
import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import nibabel as nib
import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from nibabel.imageglobals import LoggingOutputSuppressor
from nibabel.spatialimages import HeaderDataError

from fullscale.errors import DataError, FullscaleError, GeometryError
from fullscale.files import atomic_path
from fullscale.geometry.volume import Affine, Volume
from fullscale.text import one_line

NIFTI_SUFFIXES = (".nii.gz", ".nii")
SUFFIXES = (*NIFTI_SUFFIXES, ".nrrd", ".nhdr", ".mha", ".mhd")
"""The file types of a volume, in lower case."""

_PAIR_SUFFIXES = (".nhdr", ".mhd")
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_METAIMAGE_PLACE = (
    ("TransformMatrix", "Rotation", "Orientation"),
    ("Offset", "Position", "Origin"),
    ("ElementSpacing", "ElementSize"),
)
_STORED_TYPES = (np.uint8, np.int8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64)


def volume_suffix(path: str | Path) -> str | None:
    """Return the suffix of a volume file (`".nii.gz"`, lower case), or None where it is no volume file."""
    name = Path(path).name.lower()
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix) and name != suffix), None)


def volume_stem(path: str | Path) -> str:
    """Return the file name without its volume suffix: `case_1` for `case_1.nii.gz`."""
    name = Path(path).name
    return name[: len(name) - len(volume_suffix(path) or "")]


def read_volume(path: str | Path) -> Volume:
    """Read one 3D volume from a NIfTI, NRRD or MetaImage file.

    Args:
        path: a file ending in one of `SUFFIXES`.

    Returns:
        Voxels `[X, Y, Z]` in stored order: the file's integers where it has no scaling, else float32 with slope and
        intercept applied; NaN and infinity are kept. The affine is RAS+ mm. `header` lets `write_volume` write a
        mask on the same NIfTI header.

    Raises:
        DataError: the file is missing, empty, cut short, of another kind, or not 3D.
        GeometryError: the file does not say where its voxels lie (a NIfTI whose qform and sform codes are both 0, a
            NRRD without `space`, a MetaImage without orientation, origin or spacing): no affine is invented.
    """
    path = Path(path)
    suffix = _require_suffix(path)
    _require_file(path)
    try:
        volume = _read_nifti(path) if suffix in NIFTI_SUFFIXES else _read_itk(path)
    except FullscaleError as error:
        raise type(error)(f"{path}: {error}") from error
    except Exception as error:
        raise DataError(f"{path}: cannot be read ({one_line(error)}); is the file whole and a {suffix}?") from error
    if volume.array.size == 0:
        raise DataError(f"{path}: has shape {volume.shape}, it holds no voxels")
    return volume


def write_volume(path: str | Path, volume: Volume, description: str | None = None) -> None:
    """Write a volume on its own grid, in the format of the suffix.

    NIfTI to NIfTI keeps the header that was read (qform and sform codes, units, description). Integers are stored as
    the smallest type that holds them, unscaled (slope 1). The file is written beside its place and renamed, so a
    half-written one is never seen and what was there before stays until then.

    Args:
        path: where to, ending in .nii.gz, .nii, .nrrd or .mha; missing folders are made.
        volume: voxels `[X, Y, Z]`, affine RAS+ mm.
        description: what the header shall say of the file (`descrip` of NIfTI, cut at 79 letters; a comment in NRRD).

    Raises:
        DataError: the suffix is none of these, or the voxels are no plain numbers.
        FullscaleError: writing failed (disk full, no permission).
    """
    path = Path(path)
    suffix = _require_suffix(path)
    if suffix in _PAIR_SUFFIXES:
        raise DataError(f"{path}: a {suffix} file is two files that cannot be replaced at once; write .mha or .nrrd")
    volume = volume.with_array(_storable(volume.array, path))
    save = _save_nifti if suffix in NIFTI_SUFFIXES else _save_itk
    with atomic_path(path) as temporary:
        try:
            save(temporary, volume, description)
        except (RuntimeError, ValueError, HeaderDataError) as error:
            raise FullscaleError(f"cannot write {path}: {one_line(error)}") from error


def _require_suffix(path: Path) -> str:
    suffix = volume_suffix(path)
    if suffix is None:
        known = ", ".join(SUFFIXES)
        raise DataError(f"{path}: '{path.suffix}' is not a volume file; use one of {known}, or a DICOM folder")
    return suffix


def _require_file(path: Path) -> None:
    if path.is_dir():
        raise DataError(f"{path}: is a folder, expected a file")
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: is empty (0 bytes)")


def _read_nifti(path: Path) -> Volume:
    with _uncompressed(path) as stream, LoggingOutputSuppressor():
        image = _nifti_class(stream).from_stream(stream)
        _require_place(image.header)
        shape = _three_dimensions(image.shape)
        array = _nifti_voxels(image).reshape(shape, order="F")
        while stream.read(1 << 20):
            pass  # a compressed file is only known to be whole once its checksum is reached
        return Volume(array, image.affine, image.header.copy())


@contextlib.contextmanager
def _uncompressed(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading, through gzip where its first bytes say so, whatever its name."""
    with path.open("rb") as raw:
        compressed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if not compressed:
            yield raw
            return
        with gzip.GzipFile(fileobj=raw) as stream:
            yield cast(BinaryIO, stream)


def _nifti_class(stream: BinaryIO) -> Any:
    start = stream.read(4)
    stream.seek(0)
    for size, kind in ((348, nib.Nifti1Image), (540, nib.Nifti2Image)):
        if start in (size.to_bytes(4, "little"), size.to_bytes(4, "big")):
            return kind
    raise DataError(f"is not a NIfTI file (it begins with {start!r}, not with a header size of 348 or 540)")


def _require_place(header: Any) -> None:
    if int(header["qform_code"]) == 0 and int(header["sform_code"]) == 0:
        raise GeometryError(
            "does not say where its voxels lie (qform_code and sform_code are both 0); "
            "write it again with its affine and a code, no affine is invented"
        )
    unit = header.get_xyzt_units()[0]
    if unit not in ("mm", "unknown"):
        raise GeometryError(f"stores positions in {unit}, expected mm; write it again in mm")


def _three_dimensions(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape without trailing single axes beyond the third."""
    squeezed = shape
    while len(squeezed) > 3 and squeezed[-1] == 1:
        squeezed = squeezed[:-1]
    if len(squeezed) != 3:
        remedy = "split it, one file a channel or time point" if len(squeezed) > 3 else "give a whole scan"
        raise DataError(f"shape {shape} has {len(squeezed)} dimensions, expected one 3D scan; {remedy}")
    return squeezed


def _nifti_voxels(image: Any) -> npt.NDArray[Any]:
    proxy = image.dataobj
    if proxy.dtype.kind not in "iuf":
        raise DataError(f"holds voxels of type {image.header.get_value_label('datatype')}, expected plain numbers")
    if proxy.dtype.kind in "iu" and (proxy.slope, proxy.inter) == (1.0, 0.0):
        unscaled = np.array(proxy.get_unscaled(), order="F")
        return unscaled.astype(unscaled.dtype.newbyteorder("="), copy=False)
    return np.array(np.asarray(proxy, dtype=np.float32), order="F")


def _read_itk(path: Path) -> Volume:
    image = sitk.ReadImage(str(path))
    if image.GetNumberOfComponentsPerPixel() > 1:
        raise DataError(f"holds {image.GetNumberOfComponentsPerPixel()} values a voxel, expected one; split it")
    shape = _three_dimensions(image.GetSize())
    _require_itk_place(path, image)
    while image.GetDimension() > 3:
        size = image.GetSize()
        image = sitk.Extract(image, (*size[:-1], 0), (0,) * len(size))
    array = sitk.GetArrayFromImage(image).T
    if array.dtype.kind not in "iuf" or array.shape != shape:
        raise DataError(f"holds voxels of type {image.GetPixelIDTypeAsString()}, expected plain numbers")
    if array.dtype.kind == "f":
        array = array.astype(np.float32, copy=False)
    lps = np.eye(4)
    lps[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.asarray(image.GetSpacing())
    lps[:3, 3] = image.GetOrigin()
    return Volume(array, _LPS_TO_RAS @ lps)


def _require_itk_place(path: Path, image: Any) -> None:
    if volume_suffix(path) in (".mha", ".mhd"):
        found = _metaimage_keys(path)
        missing = [names[0] for names in _METAIMAGE_PLACE if not found.intersection(names)]
    else:
        known = image.HasMetaDataKey("NRRD_space") and image.GetMetaData("NRRD_space") == "left-posterior-superior"
        missing = [] if known else ["space"]
    if missing:
        raise GeometryError(
            f"does not say where its voxels lie (no {', '.join(missing)} in its header); "
            "write it again with its geometry, no affine is invented"
        )


def _metaimage_keys(path: Path) -> set[str]:
    with path.open("rb") as stream:
        header = stream.read(1 << 16).partition(b"ElementDataFile")[0]
    return {line.partition("=")[0].strip() for line in header.decode("latin-1").splitlines()}


def _storable(array: npt.NDArray[Any], path: Path) -> npt.NDArray[Any]:
    if array.dtype.kind not in "biuf" or array.size == 0:
        raise DataError(f"{path}: voxels of type {array.dtype} and shape {array.shape} cannot be stored")
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    if array.dtype.kind == "f":
        return array.astype(np.float64 if array.dtype.itemsize >= 8 else np.float32, copy=False)
    return array.astype(smallest_integer_type(array), copy=False)


def smallest_integer_type(array: npt.NDArray[Any]) -> np.dtype[Any]:
    """Return the smallest integer type that holds every value of an array of integers or whole floats."""
    low, high = array.min(), array.max()
    fitting = (t for t in _STORED_TYPES if np.iinfo(t).min <= low and high <= np.iinfo(t).max)
    return np.dtype(next(fitting, np.int64))


def _save_nifti(path: Path, volume: Volume, description: str | None) -> None:
    header = volume.header if isinstance(volume.header, nib.Nifti1Header) else None
    kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    image = kind(volume.array, volume.affine, header)
    image.set_data_dtype(volume.array.dtype)
    image.header["cal_min"] = image.header["cal_max"] = 0
    if header is None or not np.allclose(header.get_best_affine(), volume.affine, rtol=0, atol=1e-6):
        image.set_sform(volume.affine, code=1)
        image.set_qform(volume.affine, code=int(_is_orthogonal(volume.affine)))
    if header is None:
        image.header.set_xyzt_units("mm")
    if description is not None:
        image.header["descrip"] = description.encode("ascii", "replace")[:79]
    nib.save(image, path)


def _is_orthogonal(affine: Affine) -> bool:
    """Tell whether a quaternion (qform) can express an affine: its axes are at right angles."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return bool(np.allclose(axes.T @ axes, np.eye(3), atol=1e-6))


def _save_itk(path: Path, volume: Volume, description: str | None) -> None:
    lps = _LPS_TO_RAS @ volume.affine
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.array.T))
    image.SetSpacing(volume.spacing_mm)
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / np.asarray(volume.spacing_mm)).ravel().tolist())
    if description is not None:
        image.SetMetaData("Comment", description)
    sitk.WriteImage(image, str(path), True)
