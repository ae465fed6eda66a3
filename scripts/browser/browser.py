"""What the browser tests of all pages share: an engine of their own, a real chromium, axe, screenshots.

    with Engine("--demo") as engine, Browser(engine.url) as browser:
        page = browser.page(PHONE, dark=True)
        page.goto("/console")
        browser.check_accessible(page, "the door")
        browser.screenshot(page, "door")
        browser.check_quiet()

A page belongs to a context of its own, with nothing stored. Whatever it writes to its console as an error or warning, every
exception it does not catch, and every request to another place than the engine is kept and fails `check_quiet`. Python's
standard library and the two packages of requirements.txt.
"""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

# The two sizes that every page is looked at in.
DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}

ADMIN_KEY = "browser-test-admin-key-0123456789"

# What axe calls bad enough to keep somebody out.
SERIOUS = ("serious", "critical")


class Engine:
    """An engine on a free port with a directory of its own; both are gone afterwards."""

    def __init__(self, *arguments, environment=None):
        self.binary = os.environ["DOORBUSTER"]
        self.arguments = arguments
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="doorbuster-browser."))
        self.environment = {**os.environ, "DOORBUSTER_ADMIN_KEY": ADMIN_KEY, **(environment or {})}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, kind, *_):
        self.kill()
        if kind is None:
            shutil.rmtree(self.directory)
        else:
            print(f"the engine's directory and log are kept: {self.directory}")

    def start(self):
        """Starts it and waits until it is ready."""
        with open(self.directory / "engine.log", "ab") as log:
            self.process = subprocess.Popen(
                [self.binary, "serve", "--data", str(self.directory / "data"), "--listen", f"127.0.0.1:{self.port}", *self.arguments],
                stdout=log, stderr=log, env=self.environment)
        until = time.monotonic() + 60
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise AssertionError(f"the engine ended with {self.process.returncode}: {self.directory}/engine.log")
            try:
                with urllib.request.urlopen(f"{self.url}/readyz", timeout=2):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        raise AssertionError("the engine was not ready within a minute")

    def kill(self):
        """Ends it with no chance to tidy up."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def command(self, *arguments):
        """Begins another command of the binary against this engine."""
        environment = {**self.environment, "DOORBUSTER_URL": self.url}
        return subprocess.Popen([self.binary, *arguments], env=environment, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


class Browser:
    """A headless chromium before one engine."""

    def __init__(self, url, shots=None):
        self.url = url
        self.shots = pathlib.Path(shots or tempfile.mkdtemp(prefix="doorbuster-screenshots."))
        self.shots.mkdir(parents=True, exist_ok=True)
        self.noise = []
        self.pardoned = []

    def __enter__(self):
        self.playwright = sync_playwright().start()
        # Without a sandbox: as root chromium has none, and it visits nobody but the engine.
        self.chromium = self.playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), args=["--no-sandbox", "--disable-dev-shm-usage"])
        print(f"chromium {self.chromium.version}")
        return self

    def __exit__(self, *_):
        self.chromium.close()
        self.playwright.stop()

    def page(self, size=DESKTOP, dark=False, still=True):
        """A page of this size with nothing stored. `still` asks for reduced motion, so that screenshots are alike."""
        context = self.chromium.new_context(
            base_url=self.url, viewport=size, color_scheme="dark" if dark else "light",
            reduced_motion="reduce" if still else "no-preference", has_touch=size is PHONE, is_mobile=size is PHONE)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("console", lambda message: message.type in ("error", "warning") and self.hear(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.hear(f"exception: {error}"))
        page.on("request", lambda request: request.url.startswith((self.url, "data:", "blob:")) or self.hear(f"foreign: {request.url}"))
        return page

    def hear(self, what):
        if not any(part in what for part in self.pardoned):
            self.noise.append(what)

    def pardon(self, part):
        """From now on, what contains this is no error of the page: the test causes it, as by ending the engine."""
        self.pardoned.append(part)

    def check_quiet(self):
        """No page has complained so far."""
        assert not self.noise, "the console is not empty:\n  " + "\n  ".join(self.noise)

    def check_accessible(self, page, label):
        """axe finds nothing serious or critical. What is less is printed."""
        found = Axe().run(page).response["violations"]
        lines = [f"{one['impact']}: {one['id']}: {one['help']}: {node['html'][:160]}" for one in found for node in one["nodes"][:3]]
        for line in lines:
            print(f"  axe, {label}: {line}")
        assert not any(one["impact"] in SERIOUS for one in found), f"axe, {label}: serious findings, see above"

    def check_no_sideways(self, page, label):
        """Nothing makes the whole page scroll sideways."""
        wide, seen = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        assert wide <= seen, f"{label}: the page is {wide} px wide in a window of {seen}"

    def screenshot(self, page, name, whole=False):
        """Keeps a picture of what is seen, or of the whole page."""
        path = self.shots / f"{name}.png"
        page.screenshot(path=path, full_page=whole)
        print(f"  {path} ({path.stat().st_size // 1024} KiB)")
        return path


def until(what, look, seconds=20):
    """Waits until `look` gives something true, and gives it back."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"{what} did not happen in {seconds} s")
