"""The live console in a real browser: enter, watch a rush, look into an actor, lose the engine and find it again.

    scripts/browser/run console [DIRECTORY FOR SCREENSHOTS]
"""

import re
import sys

from browser import ADMIN_KEY, DESKTOP, PHONE, Browser, Engine, until


def number(page, selector):
    """The first number in an element."""
    found = re.search(r"[\d,]+(\.\d+)?", page.inner_text(selector))
    return float(found.group().replace(",", "")) if found else 0.0


def placed(page):
    """Orders since the engine started."""
    return int(re.search(r"([\d,]+) since", page.inner_text("#orders-more")).group(1).replace(",", ""))


def enter(page):
    """Types the key, as a person with a keyboard does, and waits for the figures."""
    page.goto("/console")
    page.keyboard.type(ADMIN_KEY)
    page.keyboard.press("Enter")
    page.wait_for_selector("#board:not([hidden])")
    page.wait_for_selector("#connection[data-state=on]")


def check_policy(page):
    """The page comes with its policy, and a script that somebody smuggles in does not run."""
    answer = page.goto("/console")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy, policy
    ran = page.evaluate("""() => { const script = document.createElement('script'); script.textContent = 'window.smuggled = true';
        document.body.append(script); return window.smuggled === true; }""")
    assert not ran, "an inline script ran"


def check_wrong_key(page):
    """A wrong key is said beside the field, and nothing is kept of it."""
    page.goto("/console")
    page.fill("#key", "not-the-admin-key")
    page.click("#enter button")
    page.wait_for_selector("#refused:has-text('not the admin key')")
    assert page.evaluate("sessionStorage.length") == 0
    assert page.evaluate("document.activeElement.id") == "key", "the reader can type again"


def check_keyboard(page):
    """Everything that acts can be reached with the tab key and is seen when it is."""
    page.evaluate("document.querySelector('.skip').focus()")
    reached = set()
    for _ in range(30):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.className"))
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        here = page.evaluate("document.activeElement.tagName")
        assert here == "BODY" or outline != "none", f"{here}: focus is not seen"
    assert {"theme", "leave", "link"} <= reached, reached


def check_actor(browser, page):
    """An actor by the keyboard: open, read, close, and be where one was."""
    button = page.locator("#skus button").first
    name = button.inner_text()
    button.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#actor[open] #actor-recent tr")
    assert name in page.inner_text("#actor-title")
    assert "Stock" in page.inner_text("#actor-state")
    browser.check_accessible(page, "an actor")
    browser.screenshot(page, "actor")
    page.keyboard.press("Escape")
    page.wait_for_selector("#actor:not([open])", state="attached")
    assert page.evaluate("document.activeElement.textContent") == name, "focus comes back"


def check_refresh(page):
    """A page loaded anew is still in; another tab is not."""
    page.reload()
    page.wait_for_selector("#connection[data-state=on]")
    assert page.evaluate("localStorage.getItem('doorbuster-admin-key')") is None, "the key is kept in the tab alone"


def check_outage(engine, browser, page):
    """The engine is gone: that is said, the tiles turn grey, and the page comes back by itself."""
    browser.pardon("net::ERR_")
    # While it recovers it says so.
    browser.pardon("status of 503")
    engine.kill()
    page.wait_for_selector("#connection[data-state=waiting]")
    until("every tile is stale", lambda: page.evaluate("document.querySelectorAll('.tile[data-part]:not(.stale)').length") == 0)
    assert "stale" in page.inner_text(".stale .age >> nth=0")
    browser.check_accessible(page, "without the engine")
    browser.screenshot(page, "outage")
    engine.start()
    page.wait_for_selector("#connection[data-state=on]", timeout=40_000)
    until("no tile is stale", lambda: page.evaluate("document.querySelectorAll('.tile.stale').length") == 0)


def main():
    shots = sys.argv[1] if len(sys.argv) > 1 else None
    with Engine("--demo") as engine, Browser(engine.url, shots) as browser:
        page = browser.page(DESKTOP)
        # Whoever smuggles or guesses is told so in the console; that is the browser's doing.
        browser.pardon("Content Security Policy")
        browser.pardon("status of 401")
        check_policy(page)
        check_wrong_key(page)
        browser.check_accessible(page, "the door")
        browser.screenshot(page, "door")
        browser.pardoned.clear()

        enter(page)
        rush = engine.command("rush", "--stock", "4000", "--shoppers", "24", "--attempts", "20000", "--duration", "120")
        until("orders come", lambda: number(page, "#orders-now") > 0)
        before = placed(page)
        until("more orders come", lambda: placed(page) > before)
        assert number(page, "#requests") > 0 and "£" in page.inner_text("#revenue")
        until("the rushed SKU is on top", lambda: page.locator("#skus button").first.inner_text().startswith("RUSH-"))
        assert page.locator("#events li").count() > 3
        assert page.inner_text("#light-text") == "Laws OK"
        browser.check_accessible(page, "figures, light")
        check_keyboard(page)
        page.evaluate("document.activeElement.blur()")
        check_actor(browser, page)
        page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
        browser.screenshot(page, "desktop-light")
        browser.screenshot(page, "desktop-light-whole", whole=True)

        for size, dark, name in [(DESKTOP, True, "desktop-dark"), (PHONE, False, "phone-light"), (PHONE, True, "phone-dark")]:
            other = browser.page(size, dark)
            enter(other)
            # The second snapshot on, so that lines have something to draw.
            until("figures", lambda: number(other, "#requests") > 0)
            other.wait_for_timeout(3_000)
            browser.check_accessible(other, name)
            browser.check_no_sideways(other, name)
            browser.screenshot(other, name)
            browser.screenshot(other, f"{name}-whole", whole=True)
            other.context.close()

        page.click("#theme")
        page.click("#theme")
        assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "dark", "the reader's choice counts"
        page.click("#theme")
        check_refresh(page)
        said, _ = rush.communicate(timeout=240)
        assert rush.returncode == 0, said
        until("nobody orders any more", lambda: number(page, "#orders-now") == 0)
        check_outage(engine, browser, page)
        page.click("#leave")
        page.wait_for_selector("#door:not([hidden])")
        assert page.evaluate("sessionStorage.length") == 0
        browser.check_quiet()
        print(f"the console is as it should be; screenshots are in {browser.shots}")


if __name__ == "__main__":
    main()
