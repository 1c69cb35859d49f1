"""Trackers of experiments: what they are given, and what becomes of a training that they fail."""

import json
import logging
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest
from lightning.pytorch.loggers import Logger

from fullscale.config.load import load_config
from fullscale.errors import UsageError
from fullscale.runfolder import RunFolder
from fullscale.training import loggers
from fullscale.training.loggers import Forgiving, Trackers, logged_settings, require_trackers
from fullscale.training.request import TrainRequest
from fullscale.training.run import train
from tests.conftest import QUICK

NAMED = "data.validation=[phantom_001,phantom_003]"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("mlflow", ("mlflow",)),
        ("none", ()),
        ("[tensorboard, wandb]", ("tensorboard", "wandb")),
        ("tensorboard,mlflow", ("tensorboard", "mlflow")),
        ("null", None),
    ],
)
def test_a_logger_is_named_alone_in_a_list_or_not_at_all(text: str, names: tuple[str, ...] | None) -> None:
    assert load_config(None, [f"trainer.logger={text}"]).trainer.logger == names


def test_a_misspelled_logger_is_refused() -> None:
    with pytest.raises(UsageError, match=r"trainer\.logger.*'mlflo'.*'tensorboard', 'mlflow' or 'wandb'"):
        load_config(None, ["trainer.logger=mlflo"])


@pytest.mark.parametrize(("logger", "module"), [("mlflow", "sqlalchemy"), ("wandb", "wandb")])
def test_a_logger_that_is_not_installed_names_its_extra(
    logger: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    trainer = load_config(None, [f"trainer.logger={logger}"]).trainer
    with pytest.raises(UsageError, match=rf"need {module}: pip install 'fullscale\[{logger}\]'"):
        require_trackers(trainer, RunFolder(tmp_path / "run"))


class Failing(Logger):
    """A tracker that is away for a while."""

    name = version = "failing"

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.had: list[tuple[Mapping[str, float], int | None]] = []

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if self.away:
            raise ConnectionError("refused by https://someone:secret@host/api")
        self.had.append((metrics, step))

    def log_hyperparams(self, *_: object) -> None:
        raise AssertionError


def test_what_a_lost_tracker_missed_follows_in_order(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter((0.0, *[1.0] * 3, 100.0))
    monkeypatch.setattr(loggers.time, "monotonic", lambda: next(clock))
    caplog.set_level(logging.WARNING, "fullscale")
    tracker = Failing()
    forgiving = Forgiving(tracker, "MLflow")
    forgiving.log_metrics({"loss": 3}, 1)
    tracker.away = True
    forgiving.log_metrics({"loss": 2}, 2)  # fails, and looks at the clock to be left alone
    tracker.away = False
    forgiving.log_metrics({"loss": 1}, 3)  # waits
    assert [step for _, step in tracker.had] == [1]
    forgiving.log_metrics({"loss": 0}, 4)
    assert [(dict(metrics)["loss"], step) for metrics, step in tracker.had] == [(3, 1), (2, 2), (1, 3), (0, 4)]
    lost, back = caplog.messages
    assert lost.startswith("MLflow cannot be written (ConnectionError: refused by https://host/api): training goes on")
    assert back == "MLflow is there again, and has what it missed (3 lines)"


def test_the_settings_tell_no_name_of_a_case_and_no_path(trained_run: Path) -> None:
    config = load_config(None, [NAMED, f"network.init={trained_run}"])
    told = json.dumps(logged_settings(config))
    assert "phantom_" not in told
    assert str(trained_run) not in told
    assert '"data.validation": "2 cases"' in told


def test_a_server_that_does_not_answer_is_one_line_before_any_work(
    phantoms: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://someone:secret@127.0.0.1:{port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    config = load_config(None, [*QUICK, "trainer.logger=mlflow"])
    with pytest.raises(UsageError, match=rf"cannot be used at http://127\.0\.0\.1:{port} \(") as caught:
        train(TrainRequest(phantoms, tmp_path / "run", config=config, cache=cache))
    assert "\n" not in str(caught.value)
    assert "leave trainer.logger=mlflow out" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert not (tmp_path / "run").exists()


class Server(BaseHTTPRequestHandler):
    """As much of an MLflow server as one run needs."""

    metrics: ClassVar[list[tuple[str, int]]] = []
    info: ClassVar = {"run_id": "r1", "run_uuid": "r1", "experiment_id": "1", "status": "RUNNING"}

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        experiment = {"experiment_id": "1", "name": "fullscale", "lifecycle_stage": "active"}
        self.answer({"experiment": experiment, "run": {"info": self.info, "data": {}}})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.endswith("log-batch"):
            self.metrics.extend((metric["key"], metric["step"]) for metric in asked.get("metrics", []))
        self.answer({"run": {"info": self.info, "data": {}}})

    def answer(self, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def served(port: int = 0) -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", port), Server) as server:
        Thread(target=server.serve_forever).start()
        try:
            yield server.server_port
        finally:
            server.shutdown()


def test_a_server_that_goes_away_and_comes_back_has_every_metric(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(loggers, "PATIENCE_S", 0.0)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    run = RunFolder(tmp_path / "run")
    config = load_config(None, ["trainer.logger=mlflow"])
    with served() as port:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://someone:secret@127.0.0.1:{port}")
        require_trackers(config.trainer, run)
        trackers = Trackers(run, run.fold(0), config)
        [logger] = trackers.loggers()
        logger.log_metrics({"loss": 2.0}, 1)
    for step in (2, 3):
        logger.log_metrics({"loss": 1.0}, step)
    assert Server.metrics == [("loss", 1)]
    with served(port):
        trackers.close("finished")
    assert Server.metrics == [("loss", 1), ("loss", 2), ("loss", 3)]
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("fullscale")]
    assert [text.partition(" (")[0] for text in ours] == [
        "MLflow cannot be written",
        "MLflow is there again, and has what it missed",
    ]
    assert "secret" not in " ".join(ours)


def _next(store: Any) -> bytes | None:
    """Return the next record; None behind the last, and where one is only half written, which the reader asserts."""
    with suppress(AssertionError):
        return store.scan_data()  # type: ignore[no-any-return]
    return None


def recorded_dice(file: Path) -> list[float]:
    """Read the values of `val_dice` from the records of a run of W&B, with its own reader."""
    from wandb.proto import wandb_internal_pb2
    from wandb.sdk.internal.datastore import DataStore

    store, dice = DataStore(), []
    store.open_for_scan(str(file))
    while (data := _next(store)) is not None:
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        values = {item.key or item.nested_key[0]: item.value_json for item in record.history.item}
        dice += [json.loads(values["val_dice"])] if "val_dice" in values else []
    return dice


@pytest.mark.slow
def test_w_and_b_writes_into_the_fold_and_goes_on_under_one_name(
    trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fullscale.scoring.summary import read_summary

    monkeypatch.delenv("WANDB_MODE", raising=False)  # offline is the default
    monkeypatch.setattr("sys.argv", ["fullscale", "train", "/data/of/a/patient"])
    run = RunFolder(tmp_path / "run")
    config = load_config(None, [*QUICK, "trainer.logger=wandb", NAMED])
    for step in (3, 7):  # twice: as a training that goes on
        trackers = Trackers(run, run.fold(0), config)
        [logger] = trackers.loggers()
        logger.log_metrics({"val_dice": step / 10}, step)
        trackers.hand_in(read_summary(RunFolder(trained_run).fold(0).summary), step)
        trackers.close("finished")
    name = json.loads(run.fold(0).tracking.read_text())["wandb"]
    files = sorted((run.fold(0).path / "wandb").glob(f"offline-run-*/run-{name}.wandb"))
    assert len(files) == 2
    deadline = time.monotonic() + 30
    while len(dice := [value for file in files for value in recorded_dice(file)]) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)  # W&B's service may write the last records after the run has ended
    for file in files:
        assert b"phantom_" not in file.read_bytes()
        assert b"/data/of" not in file.read_bytes()
    assert dice == [0.3, 0.7]
    scores = json.loads(next(files[0].parent.glob("files/scores.json")).read_text())
    assert scores["liver"]["Dice"] == read_summary(RunFolder(trained_run).fold(0).summary).mean(1)["Dice"]


@pytest.mark.long
def test_mlflow_reads_back_one_run_of_a_training_that_went_on(phantoms: Path, cache: Path, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    run = RunFolder(tmp_path / "runs" / "liver")
    for epochs in (2, 3):
        settings = [*QUICK, "trainer.logger=[mlflow]", f"trainer.max_epochs={epochs}", NAMED]
        train(TrainRequest(phantoms, run.path, config=load_config(None, settings), cache=cache))
    client = MlflowClient(f"sqlite:///{tmp_path}/runs/mlflow.db")
    experiment = client.get_experiment_by_name("fullscale")
    assert experiment is not None
    [kept] = client.search_runs([experiment.experiment_id])
    assert (kept.info.run_name, kept.info.status) == ("liver, fold 0", "FINISHED")
    assert [metric.step for metric in client.get_metric_history(kept.info.run_id, "val_dice")] == [3, 7, 11]
    assert {"loss", "learning_rate", "val_dice_liver", "score/Dice/spleen"} <= kept.data.metrics.keys()
    assert kept.data.params["network.width"] == "4"
    assert (kept.data.params["trainer.max_epochs"], kept.data.tags["now.trainer.max_epochs"]) == ("2", "3")
    files = {file.path for file in client.list_artifacts(kept.info.run_id)}
    assert files == {"metrics.csv", "progress.png", "scores.json", "settings.json"}
    everything = [*(tmp_path / "runs" / "mlflow-files").rglob("*.*"), tmp_path / "runs" / "mlflow.db"]
    assert not [path for path in everything if path.is_file() and b"phantom_" in path.read_bytes()]
