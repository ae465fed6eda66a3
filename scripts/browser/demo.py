"""The demo shop, used as a newcomer would: scripts/browser/run demo

Announces a drop and waits for its doors, holds, sells, gives back, pays in every way there is, cancels, lets two fight for the
last unit, sends a crowd, kills the engine and starts it again; then looks at the page on a phone, in the dark and by keyboard.
"""

import re
import sys

from browser import DESKTOP, PHONE, Browser, Engine, until

UNITS = 200
CROWD = 600

# How each payment method ends: the order's chip, or the problem's code.
METHODS = [
    ("ok", "paid", None),
    ("authorize", "paid", None),
    ("requires_action", "payment open", None),
    ("slow", "paid", None),
    ("declined", None, "payment_declined"),
    ("error", None, "payment_declined"),
    ("timeout", "paid", None),
]


def number(text):
    return int(text.replace(",", ""))


def left(page):
    return number(page.inner_text("#left"))


def expect_left(page, units, why):
    until(f"{units} left ({why}); the page says {left(page)}", lambda: left(page) == units)


def expect_text(page, selector, text, seconds=20):
    until(f"{text!r} in {selector}", lambda: text in (page.text_content(selector) or ""), seconds)


def open_shop(browser, **how):
    page = browser.page(**how)
    page.goto("/demo")
    expect_text(page, "#link-text", "live")
    return page


def check_drop(browser, page):
    """The doors are closed in the engine, and open by themselves."""
    assert page.is_visible("#stage-none")
    browser.check_accessible(page, "closed")
    browser.screenshot(page, "1-closed")
    page.click("#announce")
    page.wait_for_selector("#stage-soon:visible")
    assert re.fullmatch(r"00:(10|0\d)", page.inner_text("#countdown")), page.inner_text("#countdown")
    page.click("#reserve")
    expect_text(page, "#calls-hold .problem", "insufficient_stock")
    browser.check_accessible(page, "countdown")
    browser.screenshot(page, "2-countdown")
    page.wait_for_selector("#stage-open:visible")
    expect_left(page, UNITS, "the doors are open")


def check_hold(browser, page):
    """A hold takes a unit, has a clock, and ends once."""
    page.click("#reserve")
    page.wait_for_selector("#ticket[data-state=held]")
    expect_left(page, UNITS - 1, "held")
    line = page.inner_text("#calls-hold pre >> nth=0")
    assert line.startswith("curl -X POST 'http://") and "Idempotency-Key: demo-" in line, line
    assert re.fullmatch(r"(2:00|1:5\d)", page.inner_text("#clock")), page.inner_text("#clock")
    page.click("#extend")
    until("a longer clock", lambda: re.fullmatch(r"(3:00|2:5\d)", page.inner_text("#clock")))
    browser.check_accessible(page, "held")
    browser.screenshot(page, "3-held", whole=True)
    page.reload()
    page.wait_for_selector("#ticket[data-state=held]")
    expect_left(page, UNITS - 1, "after a reload")
    page.evaluate("scrollTo(0, 0)")
    browser.screenshot(page, "3-reloaded")
    page.click("#commit")
    page.wait_for_selector("#ticket[data-state=committed]")
    expect_left(page, UNITS - 1, "sold")

    page.click("#twice")
    page.wait_for_selector("#ticket[data-state=held]")
    expect_left(page, UNITS - 2, "two clicks, one unit")
    until("both answers", lambda: page.locator("#calls-hold .call").count() == 2)
    assert page.locator("#calls-hold .chip.replay").count() == 1, "one of two copies is told that it is one"
    browser.screenshot(page, "4-twice", whole=True)
    page.click("#release")
    page.wait_for_selector("#ticket[data-state=released]")
    expect_left(page, UNITS - 1, "given back")


def check_payments(browser, page):
    """Every way a bank can behave ends in words, and in a figure that fits."""
    units = UNITS - 1
    for method, state, problem in METHODS:
        page.click(f"[data-method={method}]")
        if problem:
            expect_text(page, "#calls-pay .problem", problem)
            expect_text(page, "#timeline", "the bank said no")
            expect_text(page, "#timeline", "nothing is held any more")
        else:
            expect_text(page, "#order-state", state, 40)
            units -= 1
        if method == "slow":
            expect_text(page, "#timeline", "the order stands")
        if method == "requires_action":
            page.wait_for_selector("#confirm:visible")
            browser.check_accessible(page, "3-D Secure")
            browser.screenshot(page, "5-bank", whole=True)
            page.click("#confirm")
            expect_text(page, "#order-state", "paid")
        if not problem:
            expect_text(page, "#order-payment", "captured", 40)
        expect_left(page, units, method)
        print(f"  {method}: {problem or state}, {units} left")
    page.click("#cancel")
    expect_text(page, "#order-state", "cancelled")
    expect_text(page, "#timeline", "the money went back")
    expect_left(page, units + 1, "cancelled")
    return units + 1


def check_duel(browser, page):
    """Whoever clicks first has it; both never do."""
    for _ in range(3):
        page.click("#duel")
        page.wait_for_selector("#duel:not([aria-disabled])")
        won = page.locator(".buyer[data-state=won]").count()
        lost = page.locator(".buyer[data-state=lost]").count()
        assert (won, lost) == (1, 1), f"{won} won and {lost} lost"
    expect_text(page, "#duel-score", "Both: never")


def check_crowd(browser, page, units):
    """More than there are units come; the books agree."""
    other = open_shop(browser)
    expect_left(other, units, "another tab sees the same")
    page.fill("#shoppers", "5001")
    page.click("#send")
    expect_text(page, "#calls-crowd .problem", "validation_failed")
    page.fill("#shoppers", str(CROWD))
    expect_text(page, "#send", f"Send {CROWD} shoppers")
    page.click("#send")
    until("the crowd is seen while it comes", lambda: 0 < number(page.inner_text("#crowd-arrived")) < CROWD)
    page.wait_for_selector("#books:visible")
    sold, on_shelf, opened = map(number, re.findall(r"[\d,]+", re.sub(r", [\d,]+ of them held", "", page.inner_text("#equation"))))
    assert sold + on_shelf == opened == UNITS, page.inner_text("#equation")
    assert page.get_attribute("#books", "data-state") == "good", page.inner_text("#verdict")
    assert number(page.inner_text("#crowd-doubled")) == 0
    told = sum(number(page.inner_text(f"#crowd-{name}")) for name in ("bought", "sold-out", "given-back"))
    assert told == CROWD == number(page.inner_text("#crowd-arrived")), f"{told} were told something"
    expect_left(page, on_shelf, "after the crowd")
    expect_left(other, on_shelf, "after the crowd, in another tab")
    other.close()
    browser.check_accessible(page, "after the crowd")
    browser.screenshot(page, "6-crowd", whole=True)
    print(f"  {page.inner_text('#equation')}; {page.inner_text('#verdict')}")


def check_kill(browser, page, engine):
    """Nothing that was told is lost with the process."""
    page.select_option("#product", "TEE-M")
    page.click("#reserve")
    page.wait_for_selector("#ticket[data-state=held]")
    page.click("[data-method=ok]")
    expect_text(page, "#order-payment", "captured")
    command = page.inner_text("#kill-command")
    assert command == f"kill -9 {engine.process.pid}", command
    browser.pardon("net::ERR_")
    # While it recovers it says so.
    browser.pardon("status of 503")
    engine.kill()
    page.wait_for_selector("#notice:visible")
    browser.screenshot(page, "7-away")
    engine.start()
    page.wait_for_selector("#notice", state="hidden", timeout=30_000)
    page.wait_for_selector("#checks li[data-state=good]")
    until("three comparisons", lambda: page.locator("#checks li").count() == 4)
    assert page.locator("#checks li[data-state=bad]").count() == 0, page.inner_text("#checks")
    expect_text(page, "#link-text", "live")
    print("  " + page.inner_text("#checks").replace("\n", " "))
    browser.check_accessible(page, "after the kill")

    page.reload()
    page.wait_for_selector("#ticket[data-state=held]")
    expect_text(page, "#order-state", "paid")

    # A tab that outlived its data directory says so, and goes on.
    browser.pardon("status of 404")
    page.evaluate("""() => {
        const memory = JSON.parse(sessionStorage.getItem("doorbuster-demo"));
        memory.hold.id = "res_00000000000000000000000000000000";
        sessionStorage.setItem("doorbuster-demo", JSON.stringify(memory));
    }""")
    page.reload()
    expect_text(page, "#notice", "not in this engine")
    page.wait_for_selector("#ticket[data-state=none]")


def check_keyboard(page):
    """All of it without a mouse."""
    page.reload()
    expect_text(page, "#link-text", "live")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.select_option("#product", "TEE-M")
    page.focus("#reserve")
    page.keyboard.press("Enter")
    page.wait_for_selector("#ticket[data-state=held]")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "release", page.evaluate("document.activeElement.id")
    page.keyboard.press("Space")
    page.wait_for_selector("#ticket[data-state=released]")
    expect_text(page, "#say", "Given back")


def check_looks(browser):
    """Both sizes, both themes."""
    for label, size in (("desktop", DESKTOP), ("phone", PHONE)):
        for theme in ("light", "dark"):
            page = open_shop(browser, size=size, dark=theme == "dark")
            page.click("#duel")
            page.wait_for_selector(".buyer[data-state=won]")
            page.select_option("#product", "TEE-L")
            page.click("[data-method=ok]")
            expect_text(page, "#order-payment", "captured")
            browser.check_no_sideways(page, f"{label}, {theme}")
            browser.check_accessible(page, f"{label}, {theme}")
            page.evaluate("scrollTo(0, 0)")
            browser.screenshot(page, f"8-{label}-{theme}")
            page.evaluate("scrollTo(0, document.getElementById('order').getBoundingClientRect().top - 330)")
            browser.screenshot(page, f"8-{label}-{theme}-paid")
            browser.screenshot(page, f"8-{label}-{theme}-whole", whole=True)
            page.context.close()


def main():
    with Engine("--demo") as engine, Browser(engine.url, *sys.argv[1:2]) as browser:
        # Refusals are what this page is there to show; the browser notes each as an error of its own.
        for status in (402, 409, 422):
            browser.pardon(f"status of {status}")
        page = open_shop(browser)
        for check in (check_drop, check_hold):
            check(browser, page)
            print(f"{check.__name__}: well")
        units = check_payments(browser, page)
        check_duel(browser, page)
        check_crowd(browser, page, units)
        browser.check_quiet()
        check_kill(browser, page, engine)
        check_keyboard(page)
        check_looks(browser)
        browser.check_quiet()
        print(f"the demo shop is well; pictures are in {browser.shots}")


if __name__ == "__main__":
    main()
