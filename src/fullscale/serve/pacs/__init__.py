"""Studies from a PACS and segmentations back: by rules, each once, with a list of what a person must look at."""
