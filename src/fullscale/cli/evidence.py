"""Verbs about what is known of a model: card, evidence."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fullscale.cli.options import Json
from fullscale.cli.show import print_json, print_line, print_status


def card(
    run: Annotated[Path, typer.Argument(help="A run folder, or a fold of it.", show_default=False)],
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; say which figure is not what the run says.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace sections that somebody changed by hand, too.")
    ] = False,
    json: Json = False,
) -> None:
    """Write the card of a model again around what people wrote into it, or check each figure in it.

    Training writes the card by itself: bundle/MODEL_CARD.md of the run and of each fold.
    """
    from fullscale.errors import DataError, UsageError
    from fullscale.reporting.model_card.card import check_model_card, require_unedited, write_model_card
    from fullscale.text import counted

    if check and overwrite:
        raise UsageError("--check writes nothing, --overwrite does: give one of them")
    if check:
        faults = check_model_card(run)
        if json:
            print_json({"faults": faults})
        for line in () if json else faults:
            print_line(line)
        if faults:
            places = counted(len(faults), "place")
            raise DataError(
                f"{run}: the card is not what the run says in {places}; fullscale card {run} writes it again"
            )
        return
    written = write_model_card(run, overwrite)
    if json:
        print_json({"card": str(written.path), "changed": written.changed, "kept": written.kept})
    else:
        for line in written.changed:
            print_status(f"was out of date: {line}")
        print_line(str(written.path))
    require_unedited(run, written)


def evidence(
    run: Annotated[
        Path | None, typer.Argument(help="A run folder; with --verify a run or a model to verify.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The folder to write.", show_default=False)
    ] = None,
    verify: Annotated[
        Path | None, typer.Option("--verify", help="Write nothing; check this folder of evidence.", show_default=False)
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="The data set, for pictures, where it has moved.", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """Write one folder that an auditor can check: card, report, records, licences, bill of materials, digests.

    With --verify, say what in such a folder was changed, added or lost, and whether a model is the one it speaks of.
    """
    from fullscale.errors import UsageError

    if verify is not None:
        if output is not None or data is not None:
            raise UsageError("--verify writes nothing: leave out -o and --data")
        _verify(verify, run, json)
    elif run is None or output is None:
        raise UsageError("give a run and -o FOLDER to write evidence, or --verify FOLDER to check it")
    else:
        _write(run, output, data, json)


def _write(run: Path, output: Path, data: Path | None, json: bool) -> None:
    from fullscale.cli.progress import progress_bar
    from fullscale.evidence.folder import MANIFEST, write_evidence
    from fullscale.files import require_no_file_in_the_way
    from fullscale.outputs import claimed

    require_no_file_in_the_way(output)
    with claimed([], [run, data], "evidence", folders=[output]), progress_bar("drawing") as progress:
        written = write_evidence(run, output, data, progress)
    for note in written.notes:
        print_status(f"no picture of {note}")
    if json:
        print_json({"folder": str(written.folder), "sha256": written.digest, "notes": written.notes})
        return
    print_line(str(written.folder))
    print_line(f"SHA-256 of its {MANIFEST}, to be kept apart: {written.digest}")


def _verify(folder: Path, model: Path | None, json: bool) -> None:
    """Print a line for each fault.

    Raises:
        DataError: there is one.
    """
    from fullscale.errors import DataError
    from fullscale.evidence.verify import verify_evidence
    from fullscale.text import counted

    faults = verify_evidence(folder, model)
    if json:
        print_json({"faults": faults})
    for line in () if json else faults:
        print_line(line)
    if faults:
        raise DataError(f"{folder}: {counted(len(faults), 'fault')}: it is not the evidence that was written")
    if not json:
        of_model = "" if model is None else f", and {model} is the model that it speaks of"
        print_line(f"{folder}: every file is as it was written, and the card is what the scores say{of_model}")


COMMANDS = {"card": card, "evidence": evidence}
