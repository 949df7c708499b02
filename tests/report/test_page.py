"""The page that parts become."""

import hashlib
import json
import re
from importlib.resources import files

import pytest

from ev2_plugin.report.page import as_script_data, asset, render
from ev2_plugin.report.parts import Line, LinePlot, Note, Plots, Report, Section, Table

BUNDLES = json.loads(asset("bundles.json"))
PLOT = LinePlot("curve-loss", "Loss", "step", "loss", (Line("</script><!--", (1,), (2.0,)),))


def page_with(*parts: Note | Plots | Table, missing: tuple[str, ...] = ()) -> str:
    return render(Report("<title>", "below", (Section("one", "One & only", parts),), missing))


def test_text_of_others_stays_text() -> None:
    page = page_with(Note("<b> & 'c'"), Table("<caption>", ("<column>",), (("<cell>",),)))
    assert "&lt;b&gt; &amp; &#x27;c&#x27;" in page
    assert all(f"&lt;{name}&gt;" in page for name in ("title", "caption", "column", "cell"))
    assert "One &amp; only" in page


def test_data_cannot_end_its_script_element() -> None:
    assert "<" not in as_script_data({"a": "</script><!--<script>"})
    page = page_with(Plots((PLOT,)))
    (payload,) = re.findall(r'<script type="application/json" id="payload">(.*?)</script>', page, re.DOTALL)
    assert json.loads(payload)["plots"]["curve-loss"]["lines"][0]["name"] == "</script><!--"


def test_a_number_that_is_not_finite_is_an_error_and_no_broken_page() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        as_script_data({"a": float("nan")})


@pytest.mark.parametrize("name", BUNDLES)
def test_bundled_libraries_are_the_released_files(name: str) -> None:
    content = (files("ev2_plugin.report") / "assets" / name).read_bytes()
    assert hashlib.sha256(content).hexdigest() == BUNDLES[name]["sha256"]
    licences = "".join(asset(licence) for licence in BUNDLES[name]["licence_files"])
    assert "Copyright" in licences
    assert BUNDLES[name]["version"] in content.decode() + licences


@pytest.mark.parametrize("name", BUNDLES)
def test_bundled_libraries_can_stand_in_a_script_element(name: str) -> None:
    assert "</script" not in asset(name).lower()
    assert "<!--" not in asset(name)


def test_a_library_is_there_only_where_it_is_needed() -> None:
    assert len(page_with(Note("words alone"))) < 50_000 < len(page_with(Plots((PLOT,))))


def test_what_is_missing_is_said() -> None:
    assert "Not in this report" not in page_with(Note("a"))
    assert "<li>no predictions</li>" in page_with(Note("a"), missing=("no predictions",))
