"""A report in the Chromium of the system, without any network."""

import io
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from ev2_plugin.report.write import write_report
from helpers.recorded_runs import log_entries, record_run
from helpers.report_sources import ENERGY_OUTLIER, relax_slabs, write_campaign, write_predictions

CHROMIUM = shutil.which("chromium")
WEBGL = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]  # 3D graphics without a graphics card

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")]

CONTRASTS = """() => {
  const parts = (color) => color.match(/[\\d.]+/g).map(Number);
  const luminance = (color) => parts(color).slice(0, 3).map((part) => part / 255)
    .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, place) => sum + part * [0.2126, 0.7152, 0.0722][place], 0);
  const background = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const color = getComputedStyle(one).backgroundColor;
      if ((parts(color)[3] ?? 1) > 0) return color;
    }
    return "rgb(255, 255, 255)";
  };
  const ownText = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
  return [...document.querySelectorAll("body *")]
    .filter((element) => ownText(element) && element.checkVisibility() && !element.matches("script, style"))
    .map((element) => {
      const style = getComputedStyle(element);
      const [a, b] = [luminance(element.ownerSVGElement ? style.fill : style.color), luminance(background(element))];
      return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), element.textContent.trim().slice(0, 40)];
    });
}"""
"""Of each element with text of its own: contrast of text and background as WCAG 2 defines it, and the text."""


@dataclass
class Opened:
    """A page, and what it did that it must not do."""

    page: Page
    requests: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with everything: enough forces for a density, energies as points."""
    folder = tmp_path_factory.mktemp("report")
    logs = folder / "run" / "logs" / "local" / "first"
    record_run(logs)
    names = ("loss", "energy_mae", "forces_mae", "forces_cosine_similarity", "lr", "grad_norm")
    log_entries(logs, [(step, "train", dict.fromkeys(names, 1.0 / step)) for step in range(1, 200)])
    log_entries(logs, [(step, "val", dict.fromkeys(names[:4], 2.0 / step)) for step in range(50, 200, 50)])
    predictions, against = write_predictions(folder, number=200)
    return write_report(
        folder / "run",
        folder / "report.html",
        predictions=predictions,
        against=against,
        relaxations=relax_slabs(folder / "relaxed"),
        adsorbml=write_campaign(folder / "campaign"),
        worst=5,
    ).path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as play:
        running = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *WEBGL])
        yield running
        running.close()


@pytest.fixture
def opened(request: pytest.FixtureRequest, browser: Browser, report: Path) -> Iterator[Opened]:
    context = browser.new_context(
        color_scheme=getattr(request, "param", "light"), viewport={"width": 1280, "height": 900}, offline=True
    )
    found = Opened(context.new_page())
    page = found.page
    page.on("console", lambda message: found.messages.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: found.messages.append(f"error: {error}"))
    page.on(
        "request",
        lambda asked: None if asked.url.startswith(("file:", "blob:", "data:")) else found.requests.append(asked.url),
    )
    page.goto(report.as_uri())
    page.wait_for_selector("html[data-drawn-after-ms]", state="attached")
    yield found
    assert found.requests == []
    assert found.messages == []
    context.close()


def look_at(page: Page, viewer: str) -> None:
    """Bring a viewer into sight and wait until it shows something."""
    page.locator(f'figure.viewer[data-viewer="{viewer}"]').scroll_into_view_if_needed()
    page.wait_for_selector(f'figure[data-viewer="{viewer}"][data-shown] canvas', state="attached")
    page.wait_for_timeout(300)


def atoms_shown(page: Page, viewer: str) -> int:
    return page.evaluate(f"views.{viewer}.model.selectedAtoms({{}}).length")


def colors_in(page: Page, selector: str) -> int:
    """How many colors a picture of an element has: one, if there is nothing in it."""
    picture = Image.open(io.BytesIO(page.locator(selector).first.screenshot())).convert("RGB")
    return len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0))


def test_every_plot_is_drawn(opened: Opened) -> None:
    page = opened.page
    for summary in page.locator("summary").all():
        summary.click()
    page.wait_for_timeout(500)
    drawn = page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll("figure.plot")].map((figure) => [
          figure.dataset.plot,
          figure.querySelectorAll(".scatterlayer path.js-line[d], .points path, .heatmaplayer image[href]").length]))"""
    )
    expected = {
        *(
            f"curve-{name}"
            for name in ("loss", "energy_mae", "forces_mae", "forces_cosine_similarity", "lr", "grad_norm")
        ),
        *("parity-energy", "parity-forces", "by-element-forces_mae", "by-element-energy_mae", "by-force-forces_mae"),
        *("by-force-forces_cosine", "relaxation-fmax", "relaxation-energy", "relaxation-converged", "adsorbml-success"),
    }
    assert set(drawn) == expected
    assert min(drawn.values()) > 0, drawn
    assert page.locator('figure[data-plot="parity-forces"] .heatmaplayer image').count() == 1


def test_viewers_show_atoms(opened: Opened) -> None:
    for viewer in ("predictions", "relaxations"):
        look_at(opened.page, viewer)
        shown = opened.page.locator(f'figure.viewer[data-viewer="{viewer}"] .shown').inner_text()
        assert f"{atoms_shown(opened.page, viewer)} atoms" in shown
        assert atoms_shown(opened.page, viewer) >= 8
        first = opened.page.locator(f'button.show[data-viewer="{viewer}"]').first
        assert (first.inner_text(), first.get_attribute("aria-pressed")) == (shown.split(":")[0].split(",")[0], "true")
        assert colors_in(opened.page, f'figure.viewer[data-viewer="{viewer}"] .scene') > 50


def test_clicking_a_point_far_off_shows_its_structure(opened: Opened) -> None:
    page = opened.page
    look_at(page, "predictions")
    page.evaluate("""show("predictions", Object.keys(payload.viewers.predictions).at(-1))""")
    assert page.evaluate("views.predictions.key") != ENERGY_OUTLIER
    plot = page.locator('figure[data-plot="parity-energy"]')
    plot.evaluate("figure => figure.scrollIntoView({ block: 'center' })")
    page.wait_for_timeout(200)
    place = plot.locator(".scatterlayer .trace").last.locator(".points path").first.bounding_box()
    assert place is not None
    page.mouse.move(place["x"] - 20, place["y"] + 20)
    page.mouse.move(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2, steps=4)
    page.wait_for_timeout(200)
    page.mouse.down()
    page.mouse.up()
    page.wait_for_selector(f'figure[data-viewer="predictions"][data-shown="{ENERGY_OUTLIER}"]')
    text = page.locator('figure.viewer[data-viewer="predictions"] .shown').inner_text()
    assert text.startswith(f"{ENERGY_OUTLIER}: ")
    assert f"{atoms_shown(page, 'predictions')} atoms" in text


def test_the_keyboard_alone_chooses_turns_and_plays(opened: Opened) -> None:
    page = opened.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    look_at(page, "relaxations")
    wanted = page.evaluate("Object.keys(payload.viewers.relaxations).at(-1)")
    page.locator('figure.viewer[data-viewer="relaxations"] .scene').focus()
    before = page.evaluate("views.relaxations.viewer.getView()")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("views.relaxations.viewer.getView()") != before
    page.keyboard.press(".")
    page.wait_for_timeout(200)
    assert page.evaluate("views.relaxations.frame") == 1
    page.keyboard.press(" ")
    page.wait_for_timeout(600)
    assert page.evaluate("views.relaxations.frame") > 1
    page.keyboard.press(" ")
    assert page.evaluate("views.relaxations.timer") is None
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.dataset.structure") == wanted:
            break
    page.keyboard.press("Enter")
    assert page.evaluate("views.relaxations.key") == wanted
    assert page.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


@pytest.mark.parametrize("opened", ["light", "dark"], indirect=True)
def test_text_is_readable_in_the_theme_that_the_system_asks_for(opened: Opened) -> None:
    for viewer in ("predictions", "relaxations"):
        look_at(opened.page, viewer)
    measured = opened.page.evaluate(CONTRASTS)
    assert len(measured) > 150
    assert min(measured)[0] >= 4.5, sorted(measured)[:5]


def test_the_theme_can_be_changed_and_plots_follow(opened: Opened) -> None:
    page = opened.page

    def theme() -> tuple[str, ...]:
        plot, scene = ".plot .main-svg", "figure.viewer .scene"
        return tuple(
            page.evaluate(f"getComputedStyle(document.querySelector('{one}')).backgroundColor") for one in (plot, scene)
        )

    before = theme()
    assert page.locator("#theme").inner_text() == "Dark theme"
    page.locator("#theme").click()
    page.wait_for_timeout(1500)
    assert page.locator("#theme").inner_text() == "Light theme"
    assert not set(theme()) & set(before)
    assert min(page.evaluate(CONTRASTS))[0] >= 4.5


@pytest.mark.parametrize("name", ["curve-loss", "parity-forces"])
def test_plots_become_files_for_papers_in_the_light_theme(opened: Opened, name: str, tmp_path: Path) -> None:
    figure = opened.page.locator(f'figure[data-plot="{name}"]')
    saved = {}
    for kind in ("svg", "png"):
        with opened.page.expect_download() as waiting:
            figure.locator(f'button[data-action="{kind}"]').click()
        assert waiting.value.suggested_filename == f"{name}.{kind}"
        saved[kind] = tmp_path / f"{name}.{kind}"
        waiting.value.save_as(saved[kind])
    assert saved["svg"].read_text().startswith("<svg")
    assert "step (batches)" in saved["svg"].read_text() or "label" in saved["svg"].read_text()
    picture = Image.open(saved["png"]).convert("RGB")
    assert picture.getpixel((1, 1)) == (255, 255, 255)
    assert picture.width > 1000


def test_the_page_is_ready_soon(opened: Opened) -> None:
    """How soon is measured by benchmarks/bench_report.py; this machine may be busy."""
    assert float(opened.page.evaluate("document.documentElement.dataset.drawnAfterMs")) < 20_000


def test_a_browser_without_3d_graphics_is_told(browser: Browser, report: Path) -> None:
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.add_init_script("HTMLCanvasElement.prototype.getContext = () => null;")
    page.goto(report.as_uri())
    viewer = page.locator('figure.viewer[data-viewer="predictions"]')
    viewer.scroll_into_view_if_needed()
    page.wait_for_timeout(1000)
    assert "no 3D graphics" in viewer.locator(".shown").inner_text()
    context.close()
