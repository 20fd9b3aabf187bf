"""The report in a real browser: it loads, reacts, fits a phone, and looks as it did when somebody looked.

Skipped where Playwright or a Chromium is missing (docs/report.md says how to get them). Golden
images are compared blurred, at an eighth of their size, so that another font or another rounding of
an edge passes and a missing picture does not; FUSECUT_WRITE_GOLDEN=1 writes them anew.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from test_html import HOSTILE, hostile_solution

import fusecut as fc
from fusecut.report.html import report, write_report
from fusecut.solution import Solution

playwright = pytest.importorskip("playwright.sync_api")
images = pytest.importorskip("PIL.Image")

CHROMIUM: Final = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
GOLDEN: Final = Path(__file__).parents[1] / "golden" / "report"
NETWORKS: Final = {"mobilenet_v2": "256KiB", "resnet18": "512KiB", "squeezenet1_1": "128KiB"}
TOLERANCE: Final = 0.2
"""Difference from the golden image, of the difference between that and an empty one; another font makes 0.1."""

DESKTOP: Final = {"width": 1400, "height": 1000}
PHONE: Final = {"width": 390, "height": 844}

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as p:
        launched = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Solution, Path]]:
    folder = tmp_path_factory.mktemp("reports")
    found = {}
    for name, buffer in NETWORKS.items():
        solution = fc.solve(fc.zoo(name), buffer, scheme="lbdf")
        write_report(solution, folder / f"{name}.html")
        found[name] = solution, folder / f"{name}.html"
    return found


class Watched:
    """A page, and everything it complained about or asked for."""

    def __init__(self, browser: Any, file: Path, size: dict[str, int] = DESKTOP, scheme: str = "light") -> None:
        self.context = browser.new_context(viewport=size, color_scheme=scheme, device_scale_factor=1)
        self.page = self.context.new_page()
        self.page.set_default_timeout(180_000)  # of a busy machine
        self.troubles: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda m: self.troubles.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda e: self.troubles.append(str(e)))
        self.page.on("dialog", self._refuse)
        self.page.on("request", lambda r: self.requests.append(r.url))
        self.page.goto(file.as_uri())
        self.page.wait_for_selector(".hull.selected", state="attached")

    def _refuse(self, dialog: Any) -> None:
        self.troubles.append("a dialog")
        dialog.dismiss()

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()


@pytest.mark.parametrize("name", sorted(NETWORKS))
@pytest.mark.parametrize(("size", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")], ids=["desktop", "phone"])
def test_it_loads_without_errors_or_requests_and_fits_the_screen(
    browser: Any, files: dict[str, tuple[Solution, Path]], name: str, size: dict[str, int], scheme: str
) -> None:
    file = files[name][1]
    with Watched(browser, file, size, scheme) as seen:
        assert seen.troubles == [] and seen.requests == [file.as_uri()]
        assert seen.page.evaluate("document.documentElement.scrollWidth") <= size["width"]


def test_every_group_is_a_hull_and_every_op_is_in_its_own(
    browser: Any, files: dict[str, tuple[Solution, Path]]
) -> None:
    solution, file = files["mobilenet_v2"]
    assert solution.partition is not None
    with Watched(browser, file) as seen:
        drawn = seen.page.evaluate(
            "[...document.querySelectorAll('.hull')].map(h => [...h.querySelectorAll('.op')].map(o => +o.dataset.op))"
        )
    assert [sum(1 << op for op in ops) for ops in drawn] == list(solution.partition.groups)


def test_edges_are_as_thick_as_their_bytes(browser: Any, files: dict[str, tuple[Solution, Path]]) -> None:
    solution, file = files["resnet18"]
    with Watched(browser, file) as seen:
        drawn = seen.page.evaluate(
            "[...document.querySelectorAll('#graph .edge')]"
            ".map(e => [e.__data__.nbytes, +e.getAttribute('stroke-width')])"
        )
    assert solution.partition is not None
    graph = solution.partition.graph
    entering = sum(graph.tensors[t].nbytes for group in solution.partition.groups for t in graph.reads(group))
    assert sum(nbytes for nbytes, _ in drawn) == entering + sum(graph.tensors[t].nbytes for t in graph.outputs)
    most = max(nbytes for nbytes, _ in drawn)
    assert all(abs(width - max(1.2, 16 * nbytes / most)) < 1e-6 for nbytes, width in drawn)


def test_a_click_takes_a_group_apart(browser: Any, files: dict[str, tuple[Solution, Path]]) -> None:
    solution, file = files["resnet18"]
    cost = solution.planned[1].cost
    with Watched(browser, file) as seen:
        seen.page.click(".hull[data-group='1'] rect.box", position={"x": 6, "y": 30})
        text = seen.page.inner_text("#detail")
        assert seen.troubles == []
    assert f"What crosses to DRAM: {cost.dram_bytes:,} B" in text and f"{cost.buffer_bytes:,} B" in text
    assert "Group 1" in text and "needs 672,256 B of buffer" in text and "200,704 B" in text


def test_a_row_of_the_table_and_a_stretch_of_the_timeline_select_too(
    browser: Any, files: dict[str, tuple[Solution, Path]]
) -> None:
    with Watched(browser, files["resnet18"][1]) as seen:
        seen.page.click(".groups tr[data-group='7'] th")
        assert "Group 7" in seen.page.inner_text("#detail h3")
        seen.page.locator(".band").nth(9).click()
        assert "Group 9" in seen.page.inner_text("#detail h3")


def test_search_marks_ops_and_enter_goes_to_the_next(browser: Any, files: dict[str, tuple[Solution, Path]]) -> None:
    solution, file = files["resnet18"]
    assert solution.partition is not None
    second = [i for i, op in enumerate(solution.partition.graph.ops) if "node_Conv_32" in op.name][1]
    group = next(i for i, mask in enumerate(solution.partition.groups) if mask >> second & 1)
    with Watched(browser, file) as seen:
        seen.page.fill("#search", "node_conv_32")
        assert seen.page.inner_text("#found") == "5 ops" and seen.page.locator(".op.hit").count() == 5
        seen.page.press("#search", "Enter")
        seen.page.press("#search", "Enter")
        assert seen.page.inner_text("#found") == "2 of 5" and f"Group {group}" in seen.page.inner_text("#detail h3")
        seen.page.fill("#search", "")
        assert seen.page.locator(".op.hit").count() == 0


def test_groups_fold_and_unfold(browser: Any, files: dict[str, tuple[Solution, Path]]) -> None:
    with Watched(browser, files["squeezenet1_1"][1]) as seen:
        ops = seen.page.locator(".op").count()
        seen.page.click("#toggle")
        assert seen.page.locator(".op").count() == 0 and seen.page.inner_text("#toggle") == "Show ops"
        seen.page.click("#toggle")
        assert seen.page.locator(".op").count() == ops and seen.troubles == []


def test_a_double_click_folds_one_group(browser: Any, files: dict[str, tuple[Solution, Path]]) -> None:
    with Watched(browser, files["resnet18"][1]) as seen:
        seen.page.dblclick(".hull[data-group='1'] rect.box", position={"x": 6, "y": 30})
        assert seen.page.locator(".hull[data-group='1'] .op").count() == 0
        assert seen.page.locator(".hull[data-group='0'] .op").count() == 13 and seen.troubles == []


def test_a_group_can_be_chosen_and_folded_from_the_keyboard(
    browser: Any, files: dict[str, tuple[Solution, Path]]
) -> None:
    with Watched(browser, files["squeezenet1_1"][1]) as seen:
        seen.page.focus(".hull[data-group='2']")
        seen.page.keyboard.press("Enter")
        assert "Group 2" in seen.page.inner_text("#detail h3")
        seen.page.keyboard.press(" ")
        assert seen.page.locator(".hull[data-group='2'] .op").count() == 0
        seen.page.keyboard.press(" ")
        assert seen.page.locator(".hull[data-group='2'] .op").count() > 0


def test_a_group_in_bands_says_how_it_runs_and_what_it_holds(browser: Any, tmp_path: Path) -> None:
    solution = fc.solve(fc.zoo("resnet18", input_shapes={"input": (1, 3, 64, 64)}), "96KiB")
    number = next(i for i, p in enumerate(solution.planned) if p.schedule.bands is not None)
    write_report(solution, tmp_path / "report.html")
    with Watched(browser, tmp_path / "report.html") as seen:
        seen.page.click(f".groups tr[data-group='{number}'] th")
        text = seen.page.inner_text("#detail")
        assert seen.troubles == []
    assert "band" in text.lower() and f"{solution.planned[number].cost.buffer_bytes:,} B" in text


def test_hostile_names_are_shown_and_do_nothing(browser: Any, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(report(hostile_solution()), encoding="utf-8")
    with Watched(browser, file) as seen:
        assert seen.troubles == [] and seen.page.locator("img").count() == 0
        assert HOSTILE.replace("\u2028", "") in seen.page.inner_text("#detail").replace("\u2028", "")


def test_the_policy_stops_what_a_hole_would_let_in(browser: Any, files: dict[str, tuple[Solution, Path]]) -> None:
    with Watched(browser, files["squeezenet1_1"][1]) as seen:
        seen.page.evaluate(
            "() => { const s = document.createElement('script'); s.textContent = 'window.hole = 1';"
            " document.body.append(s); const i = new Image(); i.src = 'http://127.0.0.1:9/x';"
            " document.body.append(i); }"
        )
        assert seen.page.evaluate("window.hole") is None
        seen.page.wait_for_timeout(200)
        assert len(seen.troubles) == 2 and all("Content Security Policy" in text for text in seen.troubles)


def test_it_prints(browser: Any, files: dict[str, tuple[Solution, Path]]) -> None:
    with Watched(browser, files["resnet18"][1]) as seen:
        seen.page.emulate_media(media="print")
        assert not seen.page.is_visible("#toggle") and seen.page.is_visible("#graph svg")
        assert seen.page.pdf(format="A4").startswith(b"%PDF")


@pytest.mark.slow
def test_hundreds_of_ops_start_folded_and_unfold(browser: Any, tmp_path: Path) -> None:
    solution = fc.solve(fc.zoo("nasnetalarge"), "512KiB", scheme="lbdf", max_plans=1)
    write_report(solution, tmp_path / "report.html", greedy=False)
    with Watched(browser, tmp_path / "report.html") as seen:
        assert seen.page.locator(".op").count() == 0
        seen.page.click("#toggle")
        assert seen.page.locator(".op").count() == 745 and seen.troubles == []


def grey(picture: bytes) -> Any:
    """Grey values of the picture, blurred by reducing it to an eighth."""
    image = images.open(io.BytesIO(picture)).convert("L")
    small = image.resize((image.width // 8, image.height // 8), images.Resampling.BOX)
    return np.asarray(small, float) / 255


@pytest.mark.parametrize("name", sorted(NETWORKS))
@pytest.mark.parametrize(("size", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")], ids=["desktop", "phone"])
def test_the_pictures_look_as_they_did(
    browser: Any, files: dict[str, tuple[Solution, Path]], name: str, size: dict[str, int], scheme: str
) -> None:
    for part in ("graph", "timeline"):
        with Watched(browser, files[name][1], size, scheme) as seen:
            taken = seen.page.locator(f"#{part}").screenshot(animations="disabled")
        golden = GOLDEN / f"{name}_{size['width']}_{scheme}_{part}.png"
        if os.environ.get("FUSECUT_WRITE_GOLDEN"):
            golden.write_bytes(taken)
        found, wanted = grey(taken), grey(golden.read_bytes())
        rows, cols = (min(a, b) for a, b in zip(found.shape, wanted.shape, strict=True))
        assert max(abs(a - b) for a, b in zip(found.shape, wanted.shape, strict=True)) <= 2
        difference = np.abs(found[:rows, :cols] - wanted[:rows, :cols]).mean()
        assert difference < TOLERANCE * np.abs(wanted - np.median(wanted)).mean()
