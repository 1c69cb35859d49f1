"""What the service counts, in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fullscale.serve.jobs import Job, JobStore

_SECONDS = (0.5, 1, 2, 5, 10, 20, 60, 120, 300, 600, 1800)


class _JobCounts(Collector):
    """Asks the store at every scrape."""

    def __init__(self, store: JobStore) -> None:
        self._store = store

    def collect(self) -> Iterator[Metric]:
        """Count the jobs of each state."""
        counts = GaugeMetricFamily("fullscale_jobs", "Jobs by state.", labels=["state"])
        for state, number in self._store.counts().items():
            counts.add_metric([state], number)
        yield counts


class _PacsCounts(Collector):
    """Asks the exchange with the PACS at every scrape."""

    def __init__(self, count: Callable[[], dict[str, dict[str, int]]]) -> None:
        self._count = count

    def collect(self) -> Iterator[Metric]:
        """Count series, results and deliveries by state, and letters by kind."""
        counts = GaugeMetricFamily("fullscale_pacs", "What comes from a PACS and goes there.", labels=["what", "state"])
        for what, states in self._count().items():
            for state, number in states.items():
                counts.add_metric([what, state], number)
        yield counts


class Metrics:
    """Counts requests, uploads and jobs; names of models and routes are its only labels.

    Args:
        store: the jobs.
    """

    def __init__(self, store: JobStore) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_JobCounts(store))
        self.requests = Counter(
            "fullscale_requests", "Requests.", ["method", "route", "status"], registry=self._registry
        )
        self.uploaded = Counter("fullscale_uploaded_bytes", "Bytes of uploads.", registry=self._registry)
        self._ended = Counter("fullscale_jobs_ended", "Jobs ended.", ["model", "state"], registry=self._registry)
        self._seconds = Histogram(
            "fullscale_job_seconds", "Seconds of a job.", ["model"], registry=self._registry, buckets=_SECONDS
        )

    def watch_pacs(self, count: Callable[[], dict[str, dict[str, int]]]) -> None:
        """Count what comes from a PACS and goes there, too."""
        self._registry.register(_PacsCounts(count))

    def job_ended(self, job: Job) -> None:
        """Count a job that ended."""
        self._ended.labels(job.model, job.state).inc()
        if job.state == "done" and job.started is not None and job.finished is not None:
            self._seconds.labels(job.model).observe(job.finished - job.started)

    def text(self) -> bytes:
        """Write everything down."""
        return generate_latest(self._registry)
