"""The dashboard in a real browser: Debian's Chromium, driven by Playwright. `browser.py SCENARIO` with URL, SHOTS (a
folder for pictures) and what the scenario needs in its environment. Fails by an exception, with the page's picture. With
PICTURES=1 it leaves one of everything, which takes much longer."""

import importlib.resources
import os
import re
import shutil
import sys
from contextlib import contextmanager

import redis
from playwright.sync_api import expect, sync_playwright

URL = os.environ["URL"]
SHOTS = os.environ["SHOTS"]
PAGES = os.environ.get("PAGES", "/").split()
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SCHEMES = ("light", "dark")
# WCAG 2.2 AA, and what axe holds to be good practice.
AXE = (importlib.resources.files("axe_playwright_python") / "axe.min.js").read_text("utf-8")
# Only what breaks a rule is asked for: to describe all that keeps them takes as long as to look. The dark differs in its
# colours, and in nothing else.
BRIGHT = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    "resultTypes": ["violations"],
}
DARK = {**BRIGHT, "runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}}
BROKEN_RULES = """rules => axe.run(document, rules).then(found => found.violations.map(
    rule => [rule.id, rule.help, ...rule.nodes.map(node => `${node.html}: ${node.failureSummary}`)].join("\\n  ")))"""
# A loaded machine is slow, a condition that never comes true is a failure all the same.
PATIENCE = 180_000

expect.set_options(timeout=PATIENCE)


@contextmanager
def chromium():
    with sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def tab(browser, name, **options):
    """A page of its own; what it has to complain of fails the scenario, and a failure leaves a picture."""
    # As people ask for it who want nothing to move: a picture that is drawn sixty times a second takes a whole processor.
    calm = {"viewport": {"width": 1440, "height": 1000}, "reduced_motion": "reduce"}
    context = browser.new_context(**{**calm, **options})
    context.set_default_timeout(PATIENCE)
    if token := os.environ.get("TOKEN"):
        sign_in(context, token)
    page = context.new_page()
    complaints = []
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(f"a dialog: {dialog.message}"))
    try:
        yield page
        assert not complaints, complaints
    except BaseException:
        page.screenshot(path=f"{SHOTS}/failed-{name}.png", full_page=True)
        raise
    finally:
        context.close()


def sign_in(context, token):
    page = context.new_page()
    page.goto(f"{URL}/login")
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(lambda url: "/login" not in url)
    page.close()


def shot(page, path, scheme, width):
    if not os.environ.get("PICTURES"):
        return
    name = re.sub(r"[^a-z0-9]+", "-", path.lower()).strip("-") or "overview"
    page.screenshot(path=f"{SHOTS}/{os.environ.get('SCENE', 'scene')}-{name}-{scheme}-{width}.png", full_page=True)


def pages():
    """Every page, in both themes, wide and narrow, with and without scripts: it is there, it fits, and axe has nothing
    to say against it."""
    with chromium() as browser:
        for width in (1440, 390):
            with tab(browser, "pages", viewport={"width": width, "height": 900}) as page:
                for path in PAGES:
                    answer = page.goto(URL + path)
                    assert answer.status == 200, (path, answer.status)
                    page.wait_for_load_state("load")
                    expect(page.locator("h1")).to_have_count(1)
                    page.evaluate(AXE)
                    for scheme in SCHEMES:
                        page.emulate_media(color_scheme=scheme)
                        wide = page.evaluate("document.documentElement.scrollWidth")
                        assert wide <= width, f"{path} is wider than {width}: {wide}"
                        broken = page.evaluate(BROKEN_RULES, DARK if scheme == "dark" else BRIGHT)
                        assert not broken, "\n".join([f"{path} {scheme} {width}", *broken])
                        shot(page, path, scheme, width)
        with tab(browser, "plain", java_script_enabled=False) as page:
            for path in PAGES:
                assert page.goto(URL + path).status == 200, path
                assert page.locator("h1").inner_text().strip(), path
                assert page.locator("main").inner_text().strip(), path


def live():
    """A message that another program adds is seen without a reload; held numbers stay, and a hidden tab is quiet."""
    with chromium() as browser, tab(browser, "live", reduced_motion="no-preference") as page:
        page.goto(f"{URL}/")
        lag = page.locator("[data-live='reservation.lag']")
        expect(lag).to_have_text("0")
        server = redis.Redis.from_url(os.environ["REDIS_URL"])
        stream = os.environ["STREAM"]
        body = '{"order_code":"LIVE-%d","customer_id":1,"lines":[{"product_id":1,"quantity":1,"unit_price":"1.00"}]}'
        server.xadd(stream, {"body": body % 1})
        expect(lag).to_have_text("1")
        expect(page.locator("h1")).to_contain_text("Reservation is paused")
        page.get_by_role("button", name="Hold").click()
        server.xadd(stream, {"body": body % 2})
        # What the server knows by now is not shown while numbers are held.
        page.wait_for_function("async () => (await (await fetch('/v1/overview')).json()).stages[0].lag === 2")
        expect(lag).to_have_text("1")
        page.get_by_role("button", name="Held").click()
        expect(lag).to_have_text("2")
        # A number that Redis cannot tell is unknown, everywhere, and never 0.
        first, _ = server.xrange(stream, count=1)[0]
        for number in range(3, 8):
            server.xadd(stream, {"body": body % number})
        middle = server.xrange(stream)[3][0]
        assert server.xdel(stream, middle) == 1
        expect(lag).to_have_text("unknown")
        page.goto(f"{URL}/streams/reservation")
        expect(page.locator("[data-live='reservation.lag']").first).to_have_text("unknown")
        expect(page.locator("main")).to_contain_text("entries were deleted before they were read")
        shot(page, "/streams/reservation-unknown", "light", 1440)


def pause():
    """A stage is paused and resumed by clicks, with a reason, and the log of actions has both."""
    with chromium() as browser, tab(browser, "pause") as page:
        page.goto(f"{URL}/streams/payment")
        page.locator("summary", has_text="Pause").click()
        opened = page.locator("details[open]")
        opened.get_by_label("Why").fill("the gateway is being repaired")
        # Who has the page open elsewhere sees it, too, without loading it again.
        beside = page.context.new_page()
        beside.goto(f"{URL}/streams/payment")
        expect(beside.locator("summary", has_text="Pause")).to_be_visible()
        opened.get_by_role("button", name="Pause payment").click()
        expect(page.locator("main")).to_contain_text("the gateway is being repaired")
        # What one did is what one sees: the answer to the form shows it, whatever scripts do later.
        assert "action=\"/streams/payment/resume\"" in page.content()
        expect(page.locator("summary", has_text="Resume")).to_be_visible()
        expect(beside.locator("summary", has_text="Resume")).to_be_visible()
        beside.close()
        page.goto(f"{URL}/")
        expect(page.locator("h1")).to_contain_text("Payment is paused (the gateway is being repaired)")
        page.goto(f"{URL}/streams/payment")
        page.locator("summary", has_text="Resume").click()
        opened.get_by_label("Why").fill("it works again")
        opened.get_by_role("button", name="Resume").click()
        page.goto(f"{URL}/")
        expect(page.locator("h1")).not_to_contain_text("paused")
        page.goto(f"{URL}/actions")
        for said in ("the gateway is being repaired", "it works again"):
            expect(page.locator("main")).to_contain_text(said)


def viewer():
    """Who may only look sees why a button does nothing, and the server refuses what a page would not send."""
    with chromium() as browser, tab(browser, "viewer") as page:
        page.goto(f"{URL}/streams/payment")
        expect(page.get_by_role("button", name="Pause")).to_be_disabled()
        for path in PAGES:
            assert page.goto(URL + path).status == 200, path
            assert page.locator("form[method=post]:not([action='/logout'])").count() == 0, path
        # Our own origin, our own cookie, the wrong role.
        answer = page.request.post(
            f"{URL}/streams/payment/pause", form={"why": "x"}, headers={"origin": URL, "sec-fetch-site": "same-origin"}
        )
        assert answer.status == 403, answer.status
        other = page.request.post(
            f"{URL}/streams/payment/pause", form={"why": "x"}, headers={"origin": "https://evil.example"}
        )
        assert other.status == 403, other.status


def hostile():
    """Codes and reasons from anybody are text, wherever they are shown."""
    with chromium() as browser, tab(browser, "hostile") as page:
        for path in PAGES:
            assert page.goto(URL + path).status == 200, path
            page.wait_for_load_state("load")
            assert page.evaluate("window.hacked === undefined"), path
            assert page.locator("main img, main script, main iframe").count() == 0, path
        page.goto(f"{URL}/")
        expect(page.locator("h1")).to_contain_text("<img src=x onerror=")


def stale():
    """Old numbers are never shown as fresh."""
    with chromium() as browser:
        with tab(browser, "stale") as page:
            page.goto(f"{URL}/")
            expect(page.locator(".stale")).to_be_hidden()
            told("loaded")
            expect(page.locator(".stale")).to_be_visible()
            expect(page.locator("h1")).to_contain_text("Redis does not answer: these figures are from")
            assert "is-stale" in page.evaluate("document.documentElement.className")
            for scheme in SCHEMES:
                page.emulate_media(color_scheme=scheme)
                shot(page, "/redis-away", scheme, 1440)
            # A page that is opened now says so, too, also without scripts.
            with tab(browser, "stale-plain", java_script_enabled=False) as plain:
                plain.goto(f"{URL}/")
                expect(plain.locator(".stale")).to_be_visible()
            told("seen")
            expect(page.locator(".stale")).to_be_hidden()
            assert "is-stale" not in page.evaluate("document.documentElement.className")


def told(word):
    """Says how far it is, and waits until the test has done its part."""
    print(word, flush=True)
    sys.stdin.readline()


def dead():
    """Somebody who has never seen the program puts 412 dead letters of a bad deploy right."""
    with chromium() as browser, tab(browser, "dead") as page:
        page.goto(f"{URL}/")
        expect(page.locator("main")).to_contain_text("412 dead letters")
        shot(page, "/overview", "light", 1440)
        # Three clicks and a reason.
        page.get_by_role("link", name="Dead letters").first.click()
        expect(page.locator("main")).to_contain_text("412 ×")
        shot(page, "/dead", "light", 1440)
        page.get_by_role("link", name="Replay 412").click()
        expect(page.locator("h1")).to_contain_text("Replay 412 letters")
        shot(page, "/dead/confirm", "light", 1440)
        page.get_by_label("Why").fill("the deploy was taken back")
        page.get_by_role("button", name="Replay 412 letters").click()
        expect(page.locator("main")).to_contain_text("Replayed 412 letters")
        shot(page, "/dead/done", "light", 1440)
        page.goto(f"{URL}/actions")
        expect(page.locator("main")).to_contain_text("the deploy was taken back")


# What is cut, broken or out of its place. A number of which one sees a part is another number.
FAULTS = """() => {
    const found = [];
    const root = document.documentElement;
    if (root.scrollWidth > root.clientWidth + 1) found.push("the page scrolls sideways");
    for (const element of document.querySelectorAll("main *")) {
        if (!element.checkVisibility()) continue;
        const style = getComputedStyle(element);
        const text = element.textContent.trim();
        const isHidden = element.clientWidth < 5 || element.clientHeight < 5;
        const name = `${element.tagName}.${element.getAttribute("class") ?? ""} ${text.slice(0, 40)}`;
        if (["auto", "scroll"].includes(style.overflowX) && element.tagName !== "PRE" && element.scrollWidth > element.clientWidth + 1)
            found.push(`scrolls sideways: ${name}`);
        if (isHidden || element.children.length || !text || ["PRE", "CODE", "INPUT", "SELECT", "OPTION"].includes(element.tagName)) continue;
        if (element.scrollWidth > element.clientWidth + 1 && style.textOverflow !== "ellipsis") found.push(`cut: ${name}`);
        const rect = element.getBoundingClientRect();
        for (let box = element.parentElement; box && box.tagName !== "MAIN"; box = box.parentElement)
            if (getComputedStyle(box).overflowX !== "visible" && rect.right > box.getBoundingClientRect().right + 1) found.push(`behind an edge: ${name}`);
        // Digits within a key or a code are no number.
        for (const number of text.matchAll(/(?<![\\w-])-?[\\d,]{5,}(\\.\\d+)?(?![\\w-])/g)) {
            const range = document.createRange();
            const node = [...element.childNodes].find((node) => node.textContent.includes(number[0]));
            if (!node || node.nodeType !== Node.TEXT_NODE) continue;
            const at = node.textContent.indexOf(number[0]);
            range.setStart(node, at);
            range.setEnd(node, at + number[0].length);
            if (new Set([...range.getClientRects()].map((line) => Math.round(line.top))).size > 1) found.push(`broken: ${number[0]}`);
        }
    }
    for (const tile of document.querySelectorAll(".tile dd, .facts dd, .lag b")) {
        const box = tile.closest(".tile, .stage").getBoundingClientRect();
        const range = document.createRange();
        range.selectNodeContents(tile);
        if (range.getBoundingClientRect().right > box.right + 1) found.push(`over its tile: ${tile.textContent.trim()}`);
    }
    return [...new Set(found)].slice(0, 6);
}"""


def numbers():
    """Amounts of a trillion are whole on every page, at every width."""
    bad = []
    with chromium() as browser, tab(browser, "numbers") as page:
        for path in PAGES:
            assert page.goto(URL + path).status == 200, path
            page.wait_for_load_state("load")
            for width in (320, 390, 640, 768, 900, 1024, 1280, 1440, 1920):
                page.set_viewport_size({"width": width, "height": 900})
                bad.extend(f"{width} {path}: {fault}" for fault in page.evaluate(FAULTS))
                shot(page, path, "light", width)
        page.goto(f"{URL}/kpis")
        expect(page.locator(".tiles")).to_contain_text("1,999,999,999,800.00")
        page.goto(f"{URL}/")
        expect(page.locator("[data-live='today.revenue']")).to_have_text("1,999,999,999,800.00")
    assert not bad, "\n".join(bad)


def refund():
    """A refund says how much and in what before it is given, shows what came of it in view, and goes once."""
    with chromium() as browser:
        with tab(browser, "refund", viewport={"width": 1440, "height": 800}) as page:
            page.goto(f"{URL}/orders/ORD-1")
            page.locator("summary", has_text="Refund").click()
            page.get_by_label("Amount").fill("10")
            shot(page, "/orders/form", "light", 1440)
            page.get_by_role("button", name="Continue").click()
            button = page.get_by_role("button", name="Refund 10.00 EUR")
            expect(button).to_be_visible()
            shot(page, "/orders/confirm", "light", 1440)
            button.dblclick()
            told = page.locator(".flash", has_text="Refunded: 10.00 EUR went back. 10.00 EUR is left.")
            expect(told).to_be_visible()
            expect(told).to_be_in_viewport()
            expect(page.locator("#refunds tbody tr")).to_have_count(1)
            shot(page, "/orders/refunded", "light", 1440)
            page.reload()
            expect(page.locator("#refunds tbody tr")).to_have_count(1)
            page.go_back()
            expect(page.locator("main")).to_contain_text("This refund was asked for before, and is not given twice.")
            expect(page.get_by_role("button", name="Refund 10.00 EUR")).to_have_count(0)
        # Without scripts it is the same, and a tab that was opened before asks for nothing twice.
        with tab(browser, "refund-plain", java_script_enabled=False) as page:
            page.goto(f"{URL}/orders/ORD-1")
            page.locator("summary", has_text="Refund").click()
            page.get_by_label("Amount").fill("5.00")
            page.get_by_role("button", name="Continue").click()
            second = page.context.new_page()
            second.goto(page.url)
            for one in (page, second):
                one.get_by_role("button", name="Refund 5.00 EUR").click()
                expect(one.locator(".flash")).to_contain_text("Refunded: 5.00 EUR went back. 5.00 EUR is left.")
            expect(page.locator("#refunds tbody tr")).to_have_count(2)


if __name__ == "__main__":
    {scenario.__name__: scenario for scenario in (pages, live, pause, viewer, hostile, stale, dead, numbers, refund)}[sys.argv[1]]()
