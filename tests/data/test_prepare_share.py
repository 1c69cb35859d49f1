"""Shares of a data set, prepared by commands of a job array."""

from pathlib import Path

from tests.conftest import Command


def test_shares_follow_one_plan_and_fill_one_cache(fullscale: Command, phantoms: Path, tmp_path: Path) -> None:
    plan, caches = tmp_path / "plan.json", [tmp_path / "whole", tmp_path / "shares"]
    assert fullscale("plan", phantoms, "-o", plan).returncode == 0
    assert "--shard needs --plan" in fullscale("prepare", phantoms, "--shard", "1/2").stderr
    assert fullscale("prepare", phantoms, "--plan", plan, "--cache", caches[0]).returncode == 0
    for share in ("1/2", "2/2", "7/60"):  # the last holds no case
        done = fullscale("prepare", phantoms, "--plan", plan, "--cache", caches[1], "--shard", share)
        assert done.returncode == 0, done.stderr
    whole, shares = ({p.relative_to(c): p.read_bytes() for p in c.rglob("*.npy")} for c in caches)
    assert whole == shares
    assert len(whole) == 12
