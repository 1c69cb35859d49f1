"""The codes by which DICOM knows an organ: SNOMED CT for those named here, a private code for any other.

The codes themselves come from pydicom's copy of the standard's dictionary (PS3.16); only words stand here.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

PRIVATE_SCHEME = "99FULLSCALE"
"""Coding scheme of organs without a SNOMED code here; DICOM lets private schemes begin with 99."""

_WORDS = {
    "adrenal gland": "AdrenalGland",
    "aorta": "Aorta",
    "bladder": "Bladder",
    "brain": "Brain",
    "breast": "Breast",
    "cerebellum": "Cerebellum",
    "colon": "Colon",
    "duodenum": "Duodenum",
    "esophagus": "Esophagus",
    "oesophagus": "Esophagus",
    "femur": "Femur",
    "gallbladder": "Gallbladder",
    "gall bladder": "Gallbladder",
    "heart": "Heart",
    "hepatic vein": "HepaticVein",
    "hippocampus": "Hippocampus",
    "inferior vena cava": "InferiorVenaCava",
    "kidney": "Kidney",
    "kidneys": "Kidney",
    "large intestine": "LargeIntestine",
    "liver": "Liver",
    "lung": "Lung",
    "lungs": "Lung",
    "lymph node": "LymphNode",
    "lymph nodes": "LymphNode",
    "mandible": "Mandible",
    "pancreas": "Pancreas",
    "portal vein": "PortalVein",
    "prostate": "Prostate",
    "pulmonary artery": "PulmonaryArtery",
    "rectum": "Rectum",
    "small bowel": "SmallIntestine",
    "small intestine": "SmallIntestine",
    "spinal cord": "SpinalCord",
    "spleen": "Spleen",
    "stomach": "Stomach",
    "thymus": "Thymus",
    "trachea": "Trachea",
    "urinary bladder": "Bladder",
    "uterus": "Uterus",
    "vertebra": "Vertebra",
    "vertebrae": "Vertebra",
}
_ABNORMAL = {
    "tumor": "Neoplasm",
    "tumour": "Neoplasm",
    "tumors": "Neoplasm",
    "tumours": "Neoplasm",
    "cancer": "Neoplasm",
    "neoplasm": "Neoplasm",
    "lesion": "Lesion",
    "lesions": "Lesion",
    "cyst": "Cyst",
    "cysts": "Cyst",
}
_SIDES = {"left": "Left", "right": "Right"}


@dataclass(frozen=True)
class StructureCodes:
    """How DICOM names one segment.

    Attributes:
        category: what sort of thing it is (CID 7150).
        type: what it is.
        side: left or right, or None.
        region: the organ that a tumour, lesion or cyst lies in, or None.
    """

    category: Code
    type: Code
    side: Code | None = None
    region: Code | None = None


def structure_codes(name: str) -> StructureCodes:
    """Find the codes of an organ by its name, such as `"liver"`, `"kidney_left"` or `"Liver tumour"`.

    A name that is not known gets a private code that is made from the name alone, so that it is the same each time.
    """
    words = re.findall(r"[^\W_]+", name.lower())
    sides = [word for word in words if word in _SIDES]
    abnormal = [word for word in words if word in _ABNORMAL]
    organ = _WORDS.get(" ".join(word for word in words if word not in (*_SIDES, *_ABNORMAL)))
    side = getattr(codes.SCT, _SIDES[sides[0]]) if len(sides) == 1 else None
    region = getattr(codes.SCT, organ) if organ else None
    only_the_lesion = len(words) == len(abnormal) + len(sides)
    if len(sides) > 1 or len(abnormal) > 1 or not (region or (abnormal and only_the_lesion)):
        return StructureCodes(codes.SCT.AnatomicalStructure, _private(name))
    if abnormal:
        kind = getattr(codes.SCT, _ABNORMAL[abnormal[0]])
        return StructureCodes(codes.SCT.MorphologicallyAbnormalStructure, kind, side, region)
    return StructureCodes(codes.SCT.AnatomicalStructure, region, side)


def _private(name: str) -> Code:
    """Make a code of at most 16 letters from a name."""
    value = hashlib.sha256(name.encode()).hexdigest()[:12].upper()
    return Code(value, PRIVATE_SCHEME, name[:64])
