"""Pages in a real browser: by keyboard, on a phone, in the dark, while they refresh, and as a checker reads them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from groundswell.errors import Unavailable
from groundswell.web.app import build_app
from groundswell.web.render import scorecard_html

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATHS = {
    "overview": "/",
    "experiments": "/experiments",
    "scorecard": "/experiments/new_checkout",
    "broken": "/experiments/broken_split",
    "ended": "/experiments/old_paywall",
    "wide": "/experiments/wide",
    "empty": "/experiments/empty",
    "draft": "/experiments/dance_tab",
    "hostile": "/experiments/hostile",
    "dead_letters": "/dead-letters",
    "missing": "/nope",
}

pytestmark = pytest.mark.skipif(
    CHROMIUM is None and os.environ.get("CI") != "true", reason="Chromium is not installed on this machine"
)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    assert CHROMIUM is not None, "CI must have Chromium: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def site(ports: Any, clock: Any, serve: Callable[..., Any]) -> Iterator[str]:
    with serve(build_app(ports, clock)) as url:
        yield url


@pytest.fixture
def opened(chromium: Browser) -> Iterator[Callable[..., Page]]:
    """Opens pages that must say nothing on the console: no broken script, nothing against the policy."""
    contexts: list[BrowserContext] = []
    said: list[str] = []

    def open_page(url: str, *, width: int = 1280, height: int = 900, dark: bool = False, scripts: bool = True) -> Page:
        context = chromium.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            java_script_enabled=scripts,
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    expected = (
        "404",
        "503",
        "ERR_",
        "Failed to fetch",
        "delivered via a <meta> element outside",
    )  # asked for by tests themselves
    assert [line for line in said if not any(part in line for part in expected)] == []


# --- size ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [320, 360, 768, 860, 1280])
def test_no_page_scrolls_sideways_at_any_width(site: str, opened: Callable[..., Page], width: int):
    page = opened(site, width=width)
    for name, path in PATHS.items():
        if name == "wide" and width not in {360, 860}:
            continue  # slow to lay out; at these it is narrowest in either form
        page.goto(site + path)
        page.evaluate(_UNFOLD)

        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), f"{name} at {width}"
        assert page.evaluate(_OUTSIDE) == [], f"{name} at {width}"


# --- what a checker reads -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (1280, "dark")])
def test_text_stands_out_from_what_is_behind_it(site: str, opened: Callable[..., Page], width: int, scheme: str):
    page = opened(site, width=width, dark=scheme == "dark")
    for name, path in PATHS.items():
        if name == "wide":
            continue  # nothing but more of the same
        page.goto(site + path)
        page.evaluate(_UNFOLD)

        faint = page.evaluate(_FAINT)

        assert faint["checked"] > 5
        assert faint["found"] == [], name


def test_dark_pages_are_dark(site: str, opened: Callable[..., Page]):
    luminance = {
        dark: opened(site, dark=dark).evaluate("getComputedStyle(document.body).backgroundColor")
        for dark in (False, True)
    }

    assert luminance == {False: "rgb(247, 248, 248)", True: "rgb(15, 21, 26)"}


@pytest.mark.parametrize("name", PATHS)
def test_a_page_is_built_for_those_who_do_not_see_it(site: str, opened: Callable[..., Page], name: str):
    page = opened(site + PATHS[name])

    assert page.evaluate(_FAULTS) == []


def test_a_plot_is_read_out_in_words(site: str, opened: Callable[..., Page]):
    page = opened(site + PATHS["scorecard"])

    label = page.locator("svg.plot[role=img]").first.get_attribute("aria-label")

    assert label == ("buyers, treatment: difference +4.16%, always-valid interval +0.155 pp to +0.728 pp. Better.")


# --- keyboard ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["overview", "experiments", "scorecard", "dead_letters"])
def test_a_keyboard_reaches_everything_in_order_and_sees_where_it_is(site: str, opened: Callable[..., Page], name: str):
    page = opened(site + PATHS[name])
    expected: int = page.evaluate(_FOCUSABLE)
    visited: list[dict[str, Any]] = []
    for _ in range(expected):
        page.keyboard.press("Tab")
        visited.append(page.evaluate(_FOCUSED))

    assert visited[0]["name"] == "Skip to content"
    assert len({one["index"] for one in visited}) == expected
    assert [one["index"] for one in visited] == sorted(one["index"] for one in visited)
    assert [one for one in visited if not one["ring"] or not one["name"] or not one["on_screen"]] == []


def test_the_skip_link_goes_to_the_content(site: str, opened: Callable[..., Page]):
    page = opened(site)
    page.keyboard.press("Tab")
    assert page.locator(".skip").is_visible()
    page.keyboard.press("Enter")

    assert page.evaluate("document.activeElement.id") == "main"


def test_an_experiment_is_opened_and_unfolded_by_keyboard_alone(site: str, opened: Callable[..., Page]):
    page = opened(site + PATHS["experiments"])
    page.get_by_role("link", name="new_checkout").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/experiments/new_checkout")
    page.get_by_text("All figures").focus()
    page.keyboard.press("Enter")

    assert page.get_by_role("heading", level=1).inner_text() == "new_checkout"
    assert page.get_by_role("region", name="All figures").is_visible()


# --- refreshing ----------------------------------------------------------------------------------------------------


def test_a_page_refreshes_itself_in_place(site: str, opened: Callable[..., Page], ports: Any):
    page = opened(site)
    page.evaluate("window.kept = true")
    assert page.get_by_role("heading", level=1).inner_text() == "3 events unaccounted for"
    page.get_by_role("link", name="wrong type").focus()
    ports.overview_value = _balanced(ports)

    page.get_by_text("Every event is accounted for").wait_for(timeout=8_000)

    assert page.evaluate("window.kept") is True
    assert page.evaluate("document.activeElement.textContent") == "wrong type"


def test_what_was_unfolded_stays_so_through_a_refresh(site: str, opened: Callable[..., Page], ports: Any):
    page = opened(site + PATHS["scorecard"])
    page.get_by_text("All figures").click()
    ports.scorecards["new_checkout"] = ports.scorecards["new_checkout"] | {"definitions_version": 13}
    page.evaluate("htmx.trigger(document.getElementById('live'), 'every')")

    page.get_by_text("version 13").wait_for(timeout=3_000)

    assert page.get_by_role("region", name="All figures").is_visible()


def test_a_page_that_could_not_refresh_says_so_until_it_can(site: str, opened: Callable[..., Page], ports: Any):
    page = opened(site)
    note = page.get_by_text("Not refreshed: the server does not answer")
    assert not note.is_visible()
    shown, ports.overview_value = ports.overview_value, Unavailable("the lake is locked")
    page.evaluate("htmx.trigger(document.getElementById('live'), 'every')")
    note.wait_for(timeout=3_000)
    assert "3 events unaccounted for" in page.inner_text("main")

    ports.overview_value = shown
    page.evaluate("htmx.trigger(document.getElementById('live'), 'every')")

    note.wait_for(state="hidden", timeout=3_000)


def test_a_server_that_is_gone_is_noticed(
    ports: Any, clock: Any, serve: Callable[..., Any], opened: Callable[..., Page]
):
    with serve(build_app(ports, clock)) as url:
        page = opened(url)
    page.evaluate("htmx.trigger(document.getElementById('live'), 'every')")

    page.get_by_text("Not refreshed").wait_for(timeout=5_000)


def test_everything_is_there_without_scripts(site: str, opened: Callable[..., Page]):
    page = opened(site, scripts=False)
    page.get_by_role("link", name="Experiments").click()
    page.get_by_role("link", name="broken_split").click()

    assert page.get_by_role("heading", name="Sample ratio mismatch").is_visible()
    assert page.locator("svg.plot[role=img]").count() == 4


# --- content -------------------------------------------------------------------------------------------------------


def test_the_broken_split_is_the_first_and_loudest_thing(site: str, opened: Callable[..., Page]):
    page = opened(site + PATHS["broken"])

    alarm = page.get_by_role("alert").bounding_box()
    table = page.locator("table.effects").bounding_box()

    assert alarm is not None
    assert table is not None
    assert alarm["y"] < table["y"]
    assert alarm["y"] + 100 < 900
    assert page.locator("table.effects").inner_text().count("Withheld") == 5


def test_hostile_text_runs_nowhere(site: str, opened: Callable[..., Page], cards: Any, tmp_path: Path):
    page = opened(site + PATHS["hostile"])
    assert page.evaluate("window.pwned") is None
    assert "<script>" in page.get_by_role("heading", level=1).inner_text()
    alone = tmp_path / "scorecard.html"
    alone.write_text(scorecard_html(cards["hostile"]), encoding="utf-8")
    page.goto(alone.as_uri())

    assert page.evaluate("window.pwned") is None
    assert page.evaluate("document.querySelectorAll('img, script').length") == 0


def test_a_scorecard_alone_and_in_a_notebook_keeps_to_itself(opened: Callable[..., Page], cards: Any, tmp_path: Path):
    html = scorecard_html(cards["running"])
    (tmp_path / "alone.html").write_text(html, encoding="utf-8")
    page = opened((tmp_path / "alone.html").as_uri(), width=360)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.evaluate(_FAULTS) == []

    (tmp_path / "notebook.html").write_text(
        "<!doctype html><body><h1 id=host>Notebook</h1><div id=cell></div></body>", encoding="utf-8"
    )
    page.goto((tmp_path / "notebook.html").as_uri())
    style = "JSON.stringify(['font', 'color', 'margin'].map(one => getComputedStyle(host)[one]))"
    before = page.evaluate(style)
    page.evaluate("html => { document.getElementById('cell').innerHTML = html; }", html)

    assert page.evaluate(style) == before
    assert page.locator("svg.plot[role=img]").count() == 4
    assert page.evaluate("getComputedStyle(document.querySelector('.gs')).backgroundColor") == "rgb(247, 248, 248)"


def test_a_wide_scorecard_is_shown_in_time(site: str, opened: Callable[..., Page]):
    page = opened(site + PATHS["wide"])

    timing = page.evaluate("performance.getEntriesByType('navigation')[0].toJSON()")

    assert page.locator("table.effects tbody").count() == 40
    assert timing["domContentLoadedEventEnd"] < 5_000


def test_pictures_of_every_page_can_be_taken(site: str, opened: Callable[..., Page], tmp_path: Path):
    folder = Path(os.environ.get("GROUNDSWELL_PICTURES", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    for width, dark in ((360, True), (1280, False)):
        page = opened(site, width=width, dark=dark)
        for name in ("overview", "experiments", "scorecard", "broken", "dead_letters"):
            page.goto(site + PATHS[name])
            picture = folder / f"{name}-{width}-{'dark' if dark else 'light'}.png"
            page.screenshot(path=picture, full_page=True)

            assert picture.stat().st_size > 10_000


def _balanced(ports: Any) -> Any:
    return msgspec.structs.replace(ports.overview_value, sources=ports.overview_value.sources[:2])


_UNFOLD = "document.querySelectorAll('details').forEach(one => { one.open = true; })"

_FOCUSABLE = """[...document.querySelectorAll('a[href], button, input, summary, [tabindex="0"]')]
    .filter(one => one.checkVisibility()).length"""

_FOCUSED = """(() => {
    const one = document.activeElement;
    const all = [...document.querySelectorAll('*')];
    const style = getComputedStyle(one);
    const box = one.getBoundingClientRect();
    return {
        index: all.indexOf(one),
        name: (one.getAttribute('aria-label') || one.textContent).trim(),
        ring: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2,
        on_screen: box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth,
    };
})()"""

# elements that reach past the window, unless they stand in something that scrolls or is hidden for eyes
_OUTSIDE = """[...document.querySelectorAll('body *')]
    .filter(one => !one.closest('.scroll, .sr, .skip') && one.checkVisibility())
    .filter(one => { const box = one.getBoundingClientRect(); return box.width > 1 && box.right > innerWidth + 1; })
    .map(one => one.outerHTML.slice(0, 90))"""

# WCAG 2.2: contrast of each piece of text with the first opaque background behind it, transparent ones blended in
_FAINT = """(() => {
    const parse = text => {
        const srgb = text.startsWith('color(srgb');
        const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
        return srgb ? [r * 255, g * 255, b * 255, a] : [r, g, b, a];
    };
    const over = (top, below) => top.slice(0, 3).map((v, i) => v * top[3] + below[i] * (1 - top[3])).concat(1);
    const behind = one => {
        const layers = [];
        for (let at = one; at; at = at.parentElement) {
            const colour = parse(getComputedStyle(at).backgroundColor);
            if (colour[3] > 0) layers.push(colour);
            if (colour[3] === 1) break;
        }
        return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
    };
    const light = ([r, g, b]) => {
        const [x, y, z] = [r, g, b].map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * x + 0.7152 * y + 0.0722 * z;
    };
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const found = [];
    let checked = 0;
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
        const one = node.parentElement;
        if (!node.textContent.trim() || !one.checkVisibility() || one.closest('.sr, .skip, script, style')) continue;
        const style = getComputedStyle(one);
        const back = behind(one);
        const ink = parse(one instanceof SVGElement ? style.fill : style.color);
        const [a, b] = [light(over(ink, back)), light(back)].sort((x, y) => y - x);
        const ratio = (a + 0.05) / (b + 0.05);
        const size = parseFloat(style.fontSize);
        const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
        checked += 1;
        if (ratio < (large ? 3 : 4.5)) found.push(`${ratio.toFixed(2)} ${node.textContent.trim().slice(0, 40)}`);
    }
    return {checked, found};
})()"""

# what automatic checkers look for: language, title, landmarks, headings, names, tables, ids
_FAULTS = """(() => {
    const faults = [];
    const all = selector => [...document.querySelectorAll(selector)];
    const fault = (text, one) => faults.push(`${text}: ${one ? one.outerHTML.slice(0, 100) : ''}`);
    const name = one => (one.getAttribute('aria-label')
        || (one.getAttribute('aria-labelledby') || '').split(' ').filter(Boolean)
            .map(id => document.getElementById(id)?.textContent || '').join(' ')
        || one.textContent).trim();
    if (!document.documentElement.lang) fault('no language');
    if (!document.title.trim()) fault('no title');
    if (!document.querySelector('meta[name=viewport][content*="width=device-width"]')) fault('no viewport');
    if (all('h1').length !== 1) fault('not one h1');
    if (document.body.classList.contains('gs') && all('main').length !== 1) fault('not one main');
    let level = 0;
    for (const one of all('h1, h2, h3, h4')) {
        if (Number(one.tagName[1]) > level + 1) fault('heading skips a level', one);
        if (!name(one)) fault('empty heading', one);
        level = Number(one.tagName[1]);
    }
    for (const one of all('a, button, summary')) if (!name(one)) fault('no name', one);
    for (const one of all('nav, section, [role=region]')) if (!name(one)) fault('landmark without name', one);
    for (const one of all('[aria-labelledby]'))
        for (const id of one.getAttribute('aria-labelledby').split(' '))
            if (!document.getElementById(id)) fault('labelled by nothing', one);
    for (const one of all('svg')) {
        if (one.parentElement.closest('svg')) continue;
        const named = one.getAttribute('role') === 'img' && one.getAttribute('aria-label');
        if (!named && one.getAttribute('aria-hidden') !== 'true') fault('picture without words', one);
    }
    for (const one of all('table')) {
        if (!one.caption && !one.closest('[aria-label]')) fault('table without caption', one);
        for (const cell of one.querySelectorAll('th')) if (!cell.scope) fault('header without scope', cell);
        if (!one.querySelector('tbody th')) { if (!one.matches('.letters')) fault('rows without header', one); }
        for (const part of one.querySelectorAll('[colspan]')) if (part.colSpan < 1) fault('bad span', part);
        if (one.getAttribute('role') === 'table')
            for (const part of one.querySelectorAll('tr, th, td, thead, tbody'))
                if (!part.getAttribute('role')) fault('role lost on phones', part);
    }
    for (const one of all('ul, ol'))
        for (const child of one.children) if (child.tagName !== 'LI') fault('list holds other things', child);
    for (const one of all('dl'))
        for (const child of one.children) if (!['DIV', 'DT', 'DD'].includes(child.tagName)) fault('bad dl', child);
    const ids = all('[id]').map(one => one.id);
    for (const id of new Set(ids)) if (ids.filter(other => other === id).length > 1) fault(`id ${id} twice`);
    for (const one of all('[tabindex]')) if (one.tabIndex > 0) fault('order is forced', one);
    for (const one of all('nav a')) {
        const box = one.getBoundingClientRect();
        if (box.height < 24 && !one.closest('.crumbs')) fault('too small to hit', one);
    }
    for (const one of all('.scroll')) if (one.tabIndex !== 0) fault('scrolls, but not by keyboard', one);
    return faults;
})()"""
