"""Volume files that belong to no data set: each is read whole, so that a broken one is known before anyone needs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter

from fullscale.data.discover import Scan
from fullscale.data.faults import image_faults, oddities
from fullscale.data.volume_files import read_every_frame
from fullscale.geometry.orientation import axis_codes
from fullscale.geometry.units import Unit
from fullscale.progress import Progress, ignore
from fullscale.work.executor import make_executor, map_cases
from fullscale.work.machine import choose_jobs


@dataclass(frozen=True)
class VolumeInfo:
    """What one volume file holds.

    Attributes:
        channels: how many; more than one along a fourth axis, or the colours of an image.
        shape: voxels along each stored axis; None where the file cannot be read.
        spacing_mm: between them, in what `unit` says; None likewise.
        orientation: where the axes run, such as "RAS"; None likewise.
        unit: "mm", or "px" of an image that does not state the size of its pixels.
        problem: why it cannot be segmented as it is, or None.
        remarks: what is odd about it.
    """

    channels: int = 0
    shape: tuple[int, int, int] | None = None
    spacing_mm: tuple[float, float, float] | None = None
    orientation: str | None = None
    unit: Unit = "mm"
    problem: str | None = None
    remarks: tuple[str, ...] = ()


def look_at_volumes(
    scans: Sequence[Scan], progress: Progress = ignore, jobs: int | None = 1
) -> list[tuple[Scan, VolumeInfo]]:
    """Read volume files and say what each holds; one that cannot be read has that for its problem.

    Args:
        scans: of one volume file each.
        progress: told after each.
        jobs: processes that share them; None as the machine allows.
    """
    with make_executor(choose_jobs(jobs, len(scans))) as executor:
        outcomes = list(map_cases(executor, look_at, scans, progress, attrgetter("name")))
    looked = [(outcome, outcome.failure()) for outcome in outcomes]
    return [(one.item, one.result() if failure is None else VolumeInfo(problem=failure)) for one, failure in looked]


def look_at(scan: Scan) -> VolumeInfo:
    """Read one volume file.

    Raises:
        DataError: it cannot be read.
    """
    images = read_every_frame(scan.path)
    first, several = images[0], len(images) > 1
    problems, remarks = [], list(first.notes)
    for number, image in enumerate(images, start=1):
        which = f"channel {number}: " if several else ""
        faults = list(image_faults(image))
        problems += [f"{which}{fault}" for fault in faults]
        remarks += [f"{which}{oddity}" for oddity in oddities(image)] if not faults else []
    return VolumeInfo(
        channels=len(images),
        shape=first.shape,
        spacing_mm=first.spacing_mm,
        orientation=axis_codes(first.affine),
        unit=first.unit,
        problem="; ".join(problems) or None,
        remarks=tuple(remarks),
    )
