"""Which files are the channels of one case, told by their names: `CASE_0000` and `CASE_0001`, or `CASE_flair`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from fullscale.data.dicom.stack import DicomReadOptions
from fullscale.data.discover import Scan
from fullscale.data.image_files import holds_colours, is_picture
from fullscale.data.read import read_channels
from fullscale.data.volume_files import NIFTI_SUFFIXES, volume_suffix
from fullscale.errors import DataError
from fullscale.geometry.volume import Volume

_NUMBERED = re.compile(r"^(.+)_(\d{4})$")


def join_channels(scans: Sequence[Scan], channels: Sequence[str], by_series: bool = False) -> list[Scan]:
    """Put files together that are the channels of one case, for a model of several channels.

    Args:
        scans: as they were found; those of a data set know their channels already.
        channels: that the model takes, in its order.
        by_series: whether it is said which series of a DICOM study is which channel.

    Raises:
        DataError: a case lacks a channel, or a file is no channel of any.
    """
    if len(channels) == 1:
        return list(scans)
    joined = [scan for scan in scans if scan.channels or (by_series and scan.series)]
    cases: dict[str, dict[str, Scan]] = {}
    for scan in (scan for scan in scans if scan not in joined):
        place = _place(scan, channels)
        if place is None:
            joined.append(replace(scan, channels=dict.fromkeys(channels, scan.path)))
            continue
        case, channel = place
        if channel in cases.setdefault(case, {}):
            raise DataError(f"{scan.path}: is a second file of the channel {channel} of {case}; remove one")
        cases[case][channel] = scan
    for case, found in cases.items():
        missing = [channel for channel in channels if channel not in found]
        if missing:
            raise DataError(f"{case}: has no file of the channel {missing[0]}; the model takes {', '.join(channels)}")
        files = {channel: found[channel].path for channel in channels}
        joined.append(replace(found[channels[0]], name=case, channels=files))
    return sorted(joined, key=lambda scan: scan.name)


def _place(scan: Scan, channels: Sequence[str]) -> tuple[str, str] | None:
    """Say of a loose file which case and which channel it is; None of a NIfTI or an image that may hold all of them.

    Of an image in colours it is told by the names of the channels: red, green and blue, or R, G and B.
    """
    if holds_colours(scan.path):
        if [channel[:1].lower() for channel in channels] == ["r", "g", "b"]:
            return None
        raise DataError(f"{scan.path}: is in colours; the model takes {', '.join(channels)}: give a file for each")
    numbered = _NUMBERED.match(scan.name)
    if numbered is not None and int(numbered[2]) < len(channels):
        return numbered[1], channels[int(numbered[2])]
    name = scan.name.lower()
    for channel in sorted(channels, key=len, reverse=True):
        if name == channel.lower() and volume_suffix(scan.path):
            return scan.path.parent.name, channel
        if re.search(rf"[_\-. ]{re.escape(channel.lower())}$", name):
            return scan.name[: -len(channel) - 1], channel
    if volume_suffix(scan.path) in NIFTI_SUFFIXES or is_picture(scan.path):
        return None
    raise DataError(
        f"{scan.path}: is which channel of which case? The model takes {', '.join(channels)}: name the files "
        f"CASE_0000 to CASE_{len(channels) - 1:04d} in this order, or CASE_{channels[0]}, or give a data set; of a "
        f"DICOM study say which series is which channel, as in --series '{channels[0]}=UID'"
    )


def read_scan(
    scan: Scan, channels: Sequence[str], options: DicomReadOptions | None = None, resample: bool = False
) -> dict[str, Volume]:
    """Read what a model takes of a scan, by the names of its channels.

    Args:
        scan: as it was found.
        channels: that the model takes, in its order.
        options: how DICOM is read; of a study, which series is which channel.
        resample: bring channels on other grids onto that of the first.

    Raises:
        DataError: a file cannot be read, or the scan lacks a channel.
        GeometryError: a channel lies on another grid than the first.
    """
    if not scan.channels:
        return read_channels(dict.fromkeys(channels, scan.source), options, resample)
    missing = [channel for channel in channels if channel not in scan.channels]
    if missing:
        raise DataError(
            f"{scan.name}: has the channels {', '.join(scan.channels)}, the model takes {', '.join(channels)}"
        )
    found = read_channels(scan.channels, options, resample)
    return {channel: found[channel] for channel in channels}
