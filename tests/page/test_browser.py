"""The page in a browser: no error, no network; curves are toggled, the video plays, the moments move.

Chromium is a package of the system; without it these tests are skipped.
"""

import io
import shutil

import numpy as np
import pytest
from PIL import Image
from written import write_run

import foretell

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
ARGUMENTS += ["--disable-background-networking", "--disable-component-update"]
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (apt-get install chromium)"),
    pytest.mark.long,
]
OTHERS = [(360, "light"), (1440, "dark")]


@pytest.fixture(scope="module")
def address(trained, tmp_path_factory):
    """A page on two presets with a published curve, a real run with a model, and a video."""
    folder = tmp_path_factory.mktemp("browser")
    for seed in range(3):
        write_run(folder / "runs" / str(seed), [1.0, 20 + seed, 90.0], "pets/cartpole", seed=seed, env="cartpole")
    run = shutil.copytree(trained, folder / "runs" / "tiny")
    film(run / "videos" / "run-episode-0.mp4")
    return foretell.write_report([folder / "runs"], folder / "report.html").as_uri()


def film(path):
    """A video of two seconds."""
    from moviepy import ImageSequenceClip

    path.parent.mkdir()
    frames = [np.full((64, 64, 3), 10 * i, np.uint8) for i in range(20)]
    ImageSequenceClip(frames, fps=10).write_videofile(str(path), logger=None)


@pytest.fixture(scope="module")
def opened(address):
    """The page in a window; at the end nothing has gone wrong in it, and nothing was asked for."""
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page, faults = browser.new_page(), []
        page.set_default_timeout(180_000)
        page.on("console", lambda message: faults.append(message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda asked: faults.append(asked.url) if asked.url.startswith("http") else None)
        page.goto(address)
        page.wait_for_selector("html[data-ready=yes]")
        yield page
        browser.close()
    assert faults == []


def picture(locator):
    return np.asarray(Image.open(io.BytesIO(locator.screenshot())).convert("L"), float)


@pytest.mark.parametrize(
    ("width", "scheme"),
    [(360, "dark"), (1440, "light"), *(pytest.param(*case, marks=pytest.mark.slow) for case in OTHERS)],
)
def test_it_is_drawn_within_the_window(opened, width, scheme):
    left = 100
    opened.set_viewport_size({"width": width, "height": 900})
    opened.emulate_media(color_scheme=scheme)
    opened.wait_for_selector(f"html[data-theme={scheme}]")
    fits = "document.documentElement.scrollWidth <= innerWidth"
    while not opened.evaluate(fits) and (left := left - 1):  # plots follow the window a moment later
        opened.wait_for_timeout(100)
    assert opened.evaluate(fits)
    assert opened.evaluate("[...document.querySelectorAll('.plot')].every((plot) => plot.querySelector('.main-svg'))")
    assert (picture(opened.locator("header")).mean() < 100) == (scheme == "dark")


def test_the_theme_is_toggled(opened):
    before = picture(opened.locator("header")).mean()
    opened.click("#theme")
    assert (picture(opened.locator("header")).mean() < 100) != (before < 100)


def test_curves_are_toggled(opened):
    panel = opened.locator("[data-panel]").filter(has_text="pets/cartpole")
    lines = lambda: panel.locator(".scatterlayer path.js-line").count()  # noqa: E731
    before = lines()
    opened.check("input[name=runs]")
    assert lines() == before + 3
    opened.check("input[value=best]")
    assert panel.locator(".legend").get_by_text("PETS, released code").count() == 1
    opened.check("input[value=seconds]")
    assert "wall time" in panel.inner_text()
    opened.check("input[value=steps]")
    shown = lines()
    panel.locator(".legendtoggle").first.click()
    opened.wait_for_function(
        "([panel, count]) => panel.querySelectorAll('.scatterlayer path.js-line').length < count",
        arg=[panel.element_handle(), shown],
    )


def test_the_moments_move(opened):
    belief = opened.locator("[data-belief]")
    first, said = picture(belief.locator(".trajectory")), belief.locator(".why").inner_text()
    assert "At step 0 the agent executed the action" in said and "It compared 6 candidates" in said
    belief.locator(".moment").fill("3")
    assert belief.locator(".time").inner_text().startswith("step 3 of 5, reward")
    assert belief.locator(".why").inner_text() != said
    assert np.abs(picture(belief.locator(".trajectory")) - first).max() > 50
    assert belief.locator(".nearest tr").count() == 6
    fan = picture(belief.locator(".trajectory"))
    belief.locator(".by-member").check()
    assert np.abs(picture(belief.locator(".trajectory")) - fan).max() > 20
    belief.locator(".play").click()
    opened.wait_for_function("() => document.querySelector('[data-belief] .moment').value !== '3'")
    belief.locator(".play").click()
    assert belief.locator(".picture").get_attribute("src").startswith("data:image/jpeg")


def test_names_are_explained(opened):
    legend = opened.locator("#results .legend").first
    assert not legend.locator("dd").first.is_visible()
    legend.locator("summary").click()
    assert legend.locator("dd").first.is_visible() and legend.locator("dt").count() >= 4
    assert opened.locator("#results abbr").first.get_attribute("title")


def test_the_video_plays(opened):
    video = opened.locator("video")
    video.evaluate("(video) => video.play()")
    opened.wait_for_function("() => document.querySelector('video').currentTime > 0.2")
