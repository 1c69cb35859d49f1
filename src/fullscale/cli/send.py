"""Verb send: masks and segmentations to a PACS."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from fullscale.cli.options import Json, Labels, parse_scheme
from fullscale.cli.show import print_json, print_line, print_status

AeTitle = Annotated[str, typer.Option(help="Our AE title in classic DICOM.")]


def send(
    files: Annotated[
        list[Path],
        typer.Argument(help="DICOM SEG, other DICOM files or folders of them; masks with --scan.", show_default=False),
    ],
    destination: Annotated[
        str, typer.Argument(help="https://HOST/dicom-web, AET@HOST:PORT, or a folder.", show_default=False)
    ],
    scan: Annotated[
        Path | None, typer.Option(help="The DICOM series of a mask that is no DICOM.", show_default=False)
    ] = None,
    series: Annotated[
        str | None, typer.Option(help="Of a scan with several series: the UID or description.", show_default=False)
    ] = None,
    labels: Labels = None,
    seg_type: Annotated[
        Literal["labelmap", "binary"] | None,
        typer.Option(help="Of DICOM SEG; by default binary where the receiver takes no label maps."),
    ] = None,
    ae_title: AeTitle = "FULLSCALE",
    json: Json = False,
) -> None:
    """Send DICOM SEG, or masks as DICOM SEG of their scan, to a PACS: by DICOMweb, or by C-STORE.

    Credentials of a DICOMweb server come from the environment or ~/.netrc, as for predict.
    """
    from fullscale.data.dicom.destination import Destination
    from fullscale.inference.sending import SendRequest, find_files
    from fullscale.inference.sending import send as send_files
    from fullscale.temporary import temporary_folder

    request = SendRequest(Destination(destination, ae_title), scan, series, parse_scheme(labels, None), seg_type)
    request.destination.check()
    found, notes = find_files(files)
    for note in notes:
        print_status(f"note: {note}")
    with temporary_folder("send") as folder:
        words = send_files(request, found, folder)
    if json:
        print_json({"destination": destination, "sent": dict(zip(map(str, found), words, strict=True))})
        return
    for file, word in zip(found, words, strict=True):
        print_line(f"{file}  sent to {destination} ({word})")


COMMANDS = {"send": send}
