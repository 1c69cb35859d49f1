"""The service: models behind HTTP, with jobs that survive a restart."""
