"""The service without its process: requests go to the application at once, and no worker is started."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from fullscale.serve.app import make_app
from fullscale.serve.jobs import new_id
from fullscale.serve.recent import RecentLines
from fullscale.serve.service import Service, find_cases, opened_service
from fullscale.serve.settings import ServeSettings, named_models


@contextmanager
def opened(
    state: Path, model: Path, data: Path | None, token: str | None = None
) -> Iterator[tuple[TestClient, Service]]:
    """Open a service with one model, `tiny`."""
    settings = ServeSettings(named_models([f"tiny={model}"]), state, data)
    with opened_service(settings, find_cases(settings)) as service, RecentLines.of("fullscale") as recent:
        yield TestClient(make_app(service, recent, token), base_url="http://127.0.0.1"), service
        service.store.close()


def finished_job(service: Service, case: str, mask: Path, request: dict[str, Any]) -> str:
    """Put a job into the store that is done, with this mask; return its name."""
    id = new_id()
    assert service.store.add(id, "tiny", case, request, 10)
    job = service.store.claim()
    assert job is not None
    folder = service.settings.outputs(id)
    folder.mkdir(parents=True)
    name = "mask" + "".join(mask.suffixes)
    (folder / name).write_bytes(mask.read_bytes())
    result = {"mask": name, "segmentation": None, "labels": {"1": "liver", "2": "spleen"}, "structures": {}}
    assert service.store.end(job, "done", result=result)
    return id
