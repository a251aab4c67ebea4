"""A headless Chromium for tests: W3C WebDriver, which is JSON over HTTP, and Chromium's own commands through it."""
import base64
import json
import re
import shutil
import subprocess
import urllib.request
from urllib.error import HTTPError

DRIVER = shutil.which("chromedriver")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MISSING = "" if DRIVER and CHROMIUM else ("no chromium with its chromedriver is installed: "
                                          "`apt-get install chromium chromium-driver` on Debian")


class Browser:
    """One window. Inside `with` it runs; scripts are given as function bodies and may return JSON."""

    def __enter__(self):
        self.process = subprocess.Popen([DRIVER, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                        text=True)
        try:
            started = next(line for line in self.process.stdout if "started successfully" in line)
            port = re.search(r"port (\d+)", started)[1]
            self.url = f"http://127.0.0.1:{port}/session"
            options = {"binary": CHROMIUM, "args": ["--headless=new", "--no-sandbox", "--hide-scrollbars"],
                       "perfLoggingPrefs": {"enableNetwork": True}}
            wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
            made = self._send("POST", "", {"capabilities": {"alwaysMatch": wanted}})
            self.url += "/" + made["sessionId"]
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *error):
        try:
            self._send("DELETE", "")
        finally:
            self._stop()

    def _stop(self):
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()

    def _send(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return json.load(answer)["value"]
        except HTTPError as error:
            raise RuntimeError(json.load(error)["value"]["message"].split("\n")[0]) from None

    def open(self, path):
        """Load a file and wait until it has run."""
        self._send("POST", "/url", {"url": path.resolve().as_uri()})

    def run(self, script, *args):
        """What the body of a function returns; RuntimeError with the message of what it throws."""
        return self._send("POST", "/execute/sync", {"script": script, "args": list(args)})

    def chromium(self, command, **params):
        """A command of the DevTools protocol."""
        return self._send("POST", "/goog/cdp/execute", {"cmd": command, "params": params})

    def check_silent(self):
        """The page that was opened last has said nothing in its console, and has asked no network."""
        assert self.log("browser") == []
        events = [json.loads(entry["message"])["message"] for entry in self.log("performance")]
        asked = [event["params"]["request"]["url"] for event in events
                 if event["method"] == "Network.requestWillBeSent"]
        assert len(asked) >= 1 and all(url.startswith(("file:", "data:")) for url in asked)

    def look(self, width, height=900, dark=False):
        """From now on a window of this size, in the light or the dark theme."""
        self.chromium("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                      mobile=False)
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.chromium("Emulation.setEmulatedMedia", features=[theme])

    def mouse(self, kind, left, top, button="none"):
        """One mouse event at a place of the window: mouseMoved, mousePressed or mouseReleased."""
        self.chromium("Input.dispatchMouseEvent", type=kind, x=left, y=top, button=button, clickCount=1)

    def log(self, kind):
        """What was logged since the last call: "browser" is the console, "performance" has the network's events."""
        return self._send("POST", "/se/log", {"type": kind})

    def screenshot(self, path):
        """The whole page as a PNG."""
        shot = self.chromium("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))
