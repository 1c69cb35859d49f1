"""Where DICOM files are sent to: a DICOMweb server, a peer of classic DICOM, or a folder."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fullscale.data.dicom import web, web_store
from fullscale.data.dicom.binary_seg import as_binary, is_label_map
from fullscale.data.dicom.headers import header_tags, quietly, read_dataset
from fullscale.errors import DataError, UsageError
from fullscale.files import atomic_path, safe_name

OUR_TITLE = "FULLSCALE"
"""AE title by which we call, and are called, unless another is given."""


@dataclass(frozen=True)
class Destination:
    """A place that takes DICOM files.

    Attributes:
        text: a URL of a DICOMweb service, `AET@host:port`, or a folder.
        calling: our own AE title.
    """

    text: str
    calling: str = OUR_TITLE

    def check(self) -> None:
        """Make sure that it can be one, without speaking to it.

        Raises:
            UsageError: it is none, or what it needs is not installed.
        """
        if web.is_url(self.text):
            query = web.Query.parse(self.text)
            if query.study or query.series or query.filters or query.of_series:
                raise UsageError(f"{self.text}: expected the DICOMweb service itself, such as https://HOST/dicom-web")
        elif not Path(self.text).is_dir():
            if "@" not in self.text:
                raise UsageError(
                    f"{self.text} is no folder that is there; expected one, AET@host:port, or https://HOST/dicom-web"
                )
            from fullscale.data.dicom.peers import Peer

            Peer.parse(self.text)

    def send(self, files: Sequence[Path]) -> list[str]:
        """Send files; a label map SEG becomes a binary one where the receiver takes no label maps.

        Returns:
            For each file a word on what it was sent as: "as it is", "uncompressed" or "binary".

        Raises:
            DataError: a file is no DICOM, or it is refused.
            UsageError: credentials or an AE title are wrong.
            OutputError: the folder cannot be written.
            FullscaleError: the receiver is away.
        """
        if web.is_url(self.text):
            return web_store.store(web.Query.parse(self.text).server, files)
        if Path(self.text).is_dir() or "@" not in self.text:
            return [_copy(file, Path(self.text)) for file in files]
        from fullscale.data.dicom.peers import Peer, store

        return store(Peer.parse(self.text), files, self.calling)


def _copy(file: Path, folder: Path) -> str:
    """Copy a file under the UID of its instance, so that the same one is there once."""
    uid = str(header_tags(file, ["SOPInstanceUID"]).get("SOPInstanceUID") or "")
    if not uid:
        raise DataError(f"{file}: is no DICOM file that can be sent: it has no SOP instance UID")
    with atomic_path(folder / f"{safe_name(uid)}.dcm") as temporary:
        shutil.copyfile(file, temporary)
    return "as it is"


def write_binary(file: Path, target: Path) -> bool:
    """Write a label map SEG as a binary one; tell whether it was one.

    Raises:
        DataError: it cannot be read.
        OutputError: the target cannot be written.
    """
    dataset = quietly(file, read_dataset, file, False)
    if not is_label_map(dataset):
        return False
    binary = quietly(file, as_binary, dataset)
    with atomic_path(target) as temporary:
        binary.save_as(temporary, enforce_file_format=True)
    return True
