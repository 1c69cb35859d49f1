"""The service killed at random moments while jobs run: after the next starts every job has ended, once."""

import random
import time
from collections import Counter
from pathlib import Path

import pytest

from fullscale.serve.jobs import ENDED, JobStore
from tests.faults.scale import LONG, SEED, record
from tests.serve.served import served

pytestmark = [pytest.mark.faults, pytest.mark.long]

KILLS = 20 if LONG else 2
AT_ONCE = 3
"""Jobs that are asked for after every start."""


def test_every_job_of_a_service_that_is_killed_ends_once(trained_run: Path, phantoms: Path, tmp_path: Path) -> None:
    state, rng = tmp_path / "state", random.Random(f"{SEED} serve")
    words = (f"tiny={trained_run}", "--data", phantoms, "--workers", 2)
    jobs: list[str] = []
    for kill in range(1, KILLS + 1):
        with served(state, *words, nth=kill) as service:
            jobs += [service.ask("tiny", f"phantom_00{rng.randrange(7)}") for _ in range(AT_ONCE)]
            if kill % 2:  # the processes have loaded the model: it is killed at work, else while they load
                service.ended(jobs[0])
                jobs += [service.ask("tiny", f"phantom_00{rng.randrange(7)}") for _ in range(AT_ONCE)]
            time.sleep(rng.uniform(0, 0.5))
            service.process.kill()
            service.process.wait()
    with served(state, *words, nth=KILLS + 1) as service:
        ends = Counter(service.ended(job)["state"] for job in jobs)
        assert ends == {"done": len(jobs)}
        masks = {job: service.client.get(f"/jobs/{job}/mask").content for job in jobs}
        cases = {job: service.client.get(f"/jobs/{job}").json()["case"] for job in jobs}
    for case in set(cases.values()):
        assert len({masks[job] for job in jobs if cases[job] == case}) == 1
    store = JobStore(state / "jobs.sqlite")
    counts = Counter[str]()
    for job in jobs:
        states = [state for state, _ in store.history(job)]
        assert sum(state in ENDED for state in states) == 1, states
        assert states[-1] == "done"
        counts["interrupted"] += states.count("running") - 1
    assert store.ids() == set(jobs)
    assert not list(state.rglob(".writing-*"))
    record("service serve", counts | {"killed": KILLS, "jobs": len(jobs), "ended once": len(jobs)})
