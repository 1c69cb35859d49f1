"""What a plane of pixels shows besides an ordinary slice, by its ImageType and its SOP class.

ImageType is free text behind its second value (PS3.3 C.7.6.1.1.2), so the words here are those that scanners and
workstations write. A plain multiplanar reformat stays a slice: its pixels are still sampled on a plane.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.uid import SecondaryCaptureImageStorage

LOCALISER = "a localiser"
CAPTURE = "a secondary capture, a picture of a screen"

_KIND_OF_VALUE = {
    "LOCALIZER": LOCALISER,
    "MOSAIC": "a mosaic, many slices tiled in one image (convert it with the scanner's own export or dcm2niix)",
    **dict.fromkeys(("MIP", "MAXIMUM IP", "MIP THICK", "MIP THIN"), "a maximum intensity projection"),
    **dict.fromkeys(("MINIP", "MIN IP", "MINIMUM IP"), "a minimum intensity projection"),
    **dict.fromkeys(("PROJECTION", "PROJECTION IMAGE", "REPROJECTION"), "a projection"),
    **dict.fromkeys(
        ("VRT", "VOLUME RENDERING", "VOLUME RENDERED", "SSD", "SURFACE RENDERING", "RENDERING", "3D RENDERING"),
        "a 3D rendering",
    ),
    **dict.fromkeys(("CPR", "CURVED MPR", "CURVED", "CURVED PLANAR"), "a curved reformat, no plane"),
    **dict.fromkeys(("SCREEN SAVE", "SCREENSAVE", "SCREENSHOT", "SCREEN CAPTURE"), "a picture of a screen"),
    **dict.fromkeys(("COLOR MAP", "COLOUR MAP", "RGB", "FUSED", "FUSION"), "a colour or fusion picture"),
}


def kind_of_plane(image_type: str | Sequence[str] | None, sop_class: str | None) -> str:
    """Name what a plane is in place of a slice, such as `"a localiser"`; empty for an ordinary slice."""
    values = [image_type] if isinstance(image_type, str) else list(image_type or ())
    words = [" ".join(str(value).upper().replace("_", " ").split()) for value in values]
    kinds = [_KIND_OF_VALUE[word] for word in words if word in _KIND_OF_VALUE]
    if kinds:
        return kinds[0]
    return CAPTURE if sop_class == SecondaryCaptureImageStorage else ""
