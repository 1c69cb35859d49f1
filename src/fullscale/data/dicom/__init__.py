"""DICOM: studies on disk, headers, slices in order, pixels, segmentations."""
