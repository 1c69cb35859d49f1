"""The page in a real browser: open, scroll, draw, undo, save, reload; no request to anywhere else."""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from fullscale.serve.page import read_page
from tests.serve.served import Served, served

pytestmark = [pytest.mark.whole, pytest.mark.long]

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
    *("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),  # WebGL 2 without a graphics card
)
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or "chromium"
PATIENCE_MS = 120_000
CASE = "phantom_001"
Opened = Callable[..., Any]


@pytest.fixture(scope="module")
def opened() -> Iterator[Opened]:
    """Opens the page of a service, and gathers what must not happen."""
    if shutil.which(CHROMIUM) is None:
        pytest.skip("chromium is not installed (Debian: apt-get install chromium), or set CHROMIUM to its path")
    if not read_page():
        pytest.skip("the page is not built: make page builds it")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))

        @contextmanager
        def open_page(service: Served, case: str = "", expected: str = "^$", **options: Any) -> Iterator[Any]:
            page = chromium.new_page(**({"viewport": {"width": 1280, "height": 800}} | options))
            page.set_default_timeout(PATIENCE_MS)
            faults: list[str] = []
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
            ours = (f"{service.url}/", "data:", "blob:")
            page.on("request", lambda request: None if request.url.startswith(ours) else faults.append(request.url))
            page.goto(f"{service.url}/#case={case}" if case else service.url)
            if case:
                page.wait_for_selector("#mask-list .row.chosen")
            yield page
            assert [fault for fault in faults if not re.search(expected, fault)] == []
            page.close()

        yield open_page
        chromium.close()


@pytest.fixture
def desk(trained_run: Path, phantoms: Path, tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path / "state", f"tiny={trained_run}", "--data", phantoms) as running:
        yield running


def amount(page: Any, value: int) -> float:
    return float(page.text_content(f"#amount-{value}").removesuffix(" ml"))


def middle(page: Any) -> tuple[float, float]:
    box = page.locator("#panes").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def draw_a_line(page: Any, length: float = 60) -> None:
    x, y = middle(page)
    page.mouse.move(x - length / 2, y)
    page.mouse.down()
    page.mouse.move(x + length / 2, y, steps=4)
    page.mouse.up()


def saved_masks(service: Served, case: str) -> list[Path]:
    return sorted((service.log.with_suffix("") / "annotations" / case / "final").glob("*/mask.nii.gz"))


def test_a_mask_is_looked_at_corrected_taken_back_saved_and_found_again(
    desk: Served, opened: Opened, phantoms: Path
) -> None:
    truth = np.asarray(nib.load(phantoms / "labelsTr" / f"{CASE}.nii.gz").dataobj)
    with opened(desk, CASE) as page:
        scan = nib.load(phantoms / "imagesTr" / f"{CASE}.nii.gz")
        ml = np.prod(scan.header.get_zooms()) / 1000
        before = amount(page, 1)
        assert before == pytest.approx((truth == 1).sum() * ml, rel=0.01)
        page.keyboard.press("2")
        where = page.text_content("#where")
        page.mouse.move(*middle(page))
        page.mouse.wheel(0, -100)
        page.wait_for_function("was => document.querySelector('#where').textContent !== was", arg=where)
        page.keyboard.press("b")
        draw_a_line(page)
        drawn = amount(page, 1)
        assert drawn != before
        page.keyboard.press("e")
        draw_a_line(page)
        assert amount(page, 1) < drawn
        page.keyboard.press("Control+z")
        assert amount(page, 1) == drawn
        page.keyboard.press("Control+z")
        assert amount(page, 1) == before
        page.keyboard.press("Control+Shift+z")
        assert amount(page, 1) == drawn
        page.keyboard.press("Control+s")
        page.fill("dialog input[name=who]", "Anna")
        page.click("dialog button.primary")
        page.wait_for_selector(".toast:has-text('Saved as version 1')")
        [saved] = saved_masks(desk, CASE)
        image = nib.load(saved)
        np.testing.assert_allclose(image.affine, scan.affine, atol=1e-4)
        changed = np.argwhere(np.asarray(image.dataobj) != truth)
        assert len(changed) > 2
        assert len(set(changed[:, 2])) == 1  # all in the slice that was shown
        assert set(np.asarray(image.dataobj)[tuple(changed.T)]) == {1}
        viewed = json.loads((saved.parent / "about.json").read_text())["said"]["viewed"]
        assert viewed["axis"] == 2
        middle_from_feet, slices = truth.shape[2] // 2, truth.shape[2]
        upwards = nib.aff2axcodes(scan.affine)[2] == "S"
        opened_at = middle_from_feet if upwards else slices - 1 - middle_from_feet
        assert set(viewed["slices"]) == {opened_at, changed[0, 2]}  # and one further
        assert changed[0, 2] == opened_at + (1 if upwards else -1)
        page.reload()
        page.wait_for_selector("#mask-list .row.chosen:has-text('Anna, version 1')")
        assert amount(page, 1) == drawn


def test_two_windows_that_correct_one_case_are_told_and_both_masks_are_kept(desk: Served, opened: Opened) -> None:
    with opened(desk, CASE) as first, opened(desk, CASE, expected="409") as second:
        for name, page, length in (("Anna", first, 40), ("Ben", second, 80)):
            page.keyboard.press("2")
            page.keyboard.press("b")
            draw_a_line(page, length)
            assert page.is_enabled("#undo"), name
        for name, page, told in (("Anna", first, "Saved as version 1"), ("Ben", second, "both are kept")):
            page.keyboard.press("Control+s")
            page.fill("dialog input[name=who]", name)
            page.click("dialog button.primary")
            page.wait_for_selector(f".toast:has-text('{told}')")
        first.wait_for_selector(".toast:has-text('Ben saved version 2')")
    masks = [np.asarray(nib.load(path).dataobj) for path in saved_masks(desk, CASE)]
    assert len(masks) == 2
    assert (masks[0] != masks[1]).any()


def test_a_scan_that_cannot_be_read_leaves_no_other_under_its_name(service: Served, opened: Opened) -> None:
    broken = "phantom_002"
    with opened(service, CASE, expected="422") as page:
        told = {"status": 422, "json": {"detail": "its file is damaged"}}
        page.route(f"**/cases/scan?case={broken}", lambda route: route.fulfill(**told))
        page.click(f"#case-list >> text={broken}")
        page.wait_for_selector(".toast.error:has-text('its file is damaged')")
        assert page.text_content("#title") == broken
        assert page.locator("#mask-list .row, #structure-list .row").count() == 0
        page.keyboard.press("b")
        draw_a_line(page)
        assert not page.is_enabled("#save")
        assert not page.is_enabled("#undo")
        page.keyboard.press("ArrowUp")
        page.click(f"#case-list >> text={CASE}")
        page.wait_for_selector("#mask-list .row.chosen")
        draw_a_line(page)
        assert page.is_enabled("#undo")
        page.click("#discard")
        page.click("dialog button.primary")
        page.wait_for_selector("#undo:disabled")
        page.wait_for_selector("#mask-list .row.chosen:has-text('of the data set')")
        assert page.locator("#mask-list .row").count() == 1


def test_a_case_is_segmented_scored_and_stands_beside_its_truth(desk: Served, opened: Opened) -> None:
    with opened(desk, CASE) as page:
        page.click("text=Segment with tiny")
        page.wait_for_selector("#mask-list .row.chosen:has-text('tiny')")
        assert "done" in page.text_content("#job-list")
        page.click("text=Score against the truth")
        page.wait_for_selector("#scores table")
        [job] = desk.client.get("/jobs").json()
        scores = desk.client.get("/cases/scores", params={"case": CASE, "job": job["id"]}).json()
        dice = scores["structures"]["liver"]["Dice"]
        assert f"{dice:.3f}" in page.text_content("#scores")
        page.click("#mask-list button[aria-label^=Beside]")
        page.wait_for_selector("#panes[data-count='2'] .pane:nth-child(2) figcaption:has-text('Truth')")


@pytest.mark.parametrize(("width", "height", "scheme"), [(1440, 900, "light"), (820, 1180, "dark"), (390, 844, "dark")])
def test_it_fits_the_screen(service: Served, opened: Opened, width: int, height: int, scheme: str) -> None:
    with opened(service, CASE, viewport={"width": width, "height": height}, color_scheme=scheme) as page:
        for view in ("cases", "masks", "correct"):
            if width <= 900:
                page.click(f".views button[data-view={view}]")
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.evaluate("document.documentElement.scrollHeight") <= height
            assert page.is_visible(f"#{view}")
        box = page.locator("#panes").bounding_box()
        assert box["width"] > 0.5 * min(width, height)
        assert box["height"] > 0.3 * height
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).every(v => v < 100)")
        assert dark == (scheme == "dark")


def test_it_asks_for_the_token_and_for_another_where_it_is_wrong(
    opened: Opened, trained_run: Path, phantoms: Path, tmp_path: Path
) -> None:
    (secret := tmp_path / "token").write_text("c0ffee00c0ffee00c0ffee00")
    secret.chmod(0o600)
    words = (f"tiny={trained_run}", "--data", phantoms, "--token-file", secret)
    with served(tmp_path / "state", *words) as service:
        from playwright.sync_api import Error

        with opened(service, expected="401|example.org") as page:  # the browser notes what was refused
            page.fill("input[name=token]", "wrong")
            page.click("dialog button.primary")
            page.wait_for_selector("text=does not know this token")
            page.fill("input[name=token]", secret.read_text())
            page.click("dialog button.primary")
            page.wait_for_selector("#case-list >> text=phantom_001")
            page.reload()
            page.wait_for_selector("#case-list >> text=phantom_001")
            assert not page.is_visible("dialog")
            stored = page.evaluate("[localStorage.length, Object.values(sessionStorage)]")
            assert stored == [0, [secret.read_text()]]
            with pytest.raises(Error, match="Failed to fetch"):  # its own policy forbids it
                page.evaluate("fetch('https://example.org/')")
