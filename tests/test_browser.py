"""The report in a real browser: no errors, no requests to anywhere, the table sorts, the pictures load."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fullscale.reporting.html import write_report

pytestmark = pytest.mark.whole

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or "chromium"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if shutil.which(CHROMIUM) is None:
        pytest.skip("chromium is not installed (Debian: apt-get install chromium), or set CHROMIUM to its path")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def report(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(trained_run, tmp_path_factory.mktemp("report") / "report.html").report


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_report_opens_alone_and_fits_the_screen(browser: Any, report: Path, width: int, scheme: str) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text))
    page.on("request", lambda request: faults.append(request.url) if request.url[:5] != "data:" else None)
    page.goto(report.as_uri())
    assert faults == [report.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    if width == 1280:
        assert page.evaluate("[...document.querySelectorAll('.scroll')].every(e => e.scrollWidth <= e.clientWidth)")
    widths = page.evaluate("[...document.images].map(i => i.complete ? i.naturalWidth : 0)")
    assert len(widths) == 2
    assert min(widths) > 800
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).every(v => v < 100)")
    assert dark == (scheme == "dark")
    page.close()


def test_a_click_on_a_head_sorts_the_table(browser: Any, report: Path) -> None:
    page = browser.new_page()
    page.goto(report.as_uri())

    def column(number: int) -> list[str]:
        cells: list[str] = page.eval_on_selector_all(
            f"table.cases tbody tr > :nth-child({number})", "cells => cells.map(c => c.dataset.v)"
        )
        return cells

    dice = [float(value) for value in column(3)]
    assert len(set(dice)) > 2
    head = page.locator("table.cases thead button", has_text="true ml")
    head.click()
    volumes = [float(value) for value in column(8)]
    assert volumes == sorted(volumes)
    assert page.locator("table.cases th[aria-sort=ascending]").count() == 1
    head.click()
    assert [float(value) for value in column(8)] == sorted(volumes, reverse=True)
    page.locator("table.cases thead button", has_text="case").click()
    assert column(1) == sorted(column(1))
    assert sorted(float(value) for value in column(3)) == sorted(dice)
    page.close()


def test_a_structure_has_one_colour_in_every_chart(browser: Any, report: Path) -> None:
    page = browser.new_page()
    page.goto(report.as_uri())
    legends = page.eval_on_selector_all(".legend span", "all => all.map(s => [s.innerText, s.firstChild.className])")
    for structure in ("liver", "spleen"):
        assert len({colour for name, colour in legends if name == structure}) == 1
    colours = dict(legends)
    assert len(set(colours.values())) == len(colours) - 1  # the whole loss and the mean Dice both have the ink's
    page.close()


def test_the_page_runs_and_loads_only_what_it_holds(browser: Any, report: Path) -> None:
    page = browser.new_page()
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text))
    page.goto(report.as_uri())
    page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "window.ran = true";
            document.body.append(script);
            document.body.insertAdjacentHTML("beforeend", "<img src='https://example.org/x.png'>");
        }"""
    )
    page.wait_for_timeout(300)
    assert page.evaluate("window.ran") is None
    assert any("Content Security Policy" in text for text in refused)
    page.close()
