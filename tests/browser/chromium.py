"""A page in headless Chromium, driven by the DevTools protocol."""

import asyncio
import base64
import itertools
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--remote-debugging-port=0",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
)
START_S = 30.0


class Page:
    """One page. requests: URLs that it requested; errors: those of its console and its scripts."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.requests: list[str] = []
        self.errors: list[str] = []
        self._socket = socket
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._loaded = asyncio.Event()

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command; returns its result."""
        ident = next(self._ids)
        answer = self._answers[ident] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": ident, "method": method, "params": params})
        reply = await asyncio.wait_for(answer, START_S)
        assert "error" not in reply, f"{method}: {reply.get('error')}"
        result: dict[str, Any] = reply["result"]
        return result

    async def open(self, url: str) -> None:
        """Open a URL and wait until the page is loaded."""
        self._loaded.clear()
        await self.call("Page.navigate", url=url)
        await asyncio.wait_for(self._loaded.wait(), START_S)

    async def evaluate(self, expression: str) -> Any:
        """Value of a JavaScript expression in the page."""
        reply = await self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in reply, reply["exceptionDetails"]
        return reply["result"].get("value")

    async def resize(self, width: int, height: int) -> None:
        """Set the window's size in CSS pixels."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    async def screenshot(self, path: Path) -> None:
        """Save the whole page as a PNG file."""
        reply = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(reply["data"]))

    async def listen(self) -> None:
        """Read messages of the browser until it closes."""
        async for message in self._socket:
            reply = message.json()
            if "id" in reply:
                self._answers.pop(reply["id"]).set_result(reply)
            else:
                self._event(reply["method"], reply["params"])

    def _event(self, method: str, params: dict[str, Any]) -> None:
        if method == "Page.loadEventFired":
            self._loaded.set()
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.errors.append(str(params["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.errors.append(str(params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.errors.append(str(params["entry"]))


@asynccontextmanager
async def opened(folder: Path, width: int = 1200, height: int = 900) -> AsyncIterator[Page]:
    """Run a browser with its profile in `folder`; yields a page. Fails, never skips, where there is no Chromium."""
    binary = next(filter(None, map(shutil.which, NAMES)), None)
    if binary is None:
        pytest.fail("no Chromium: apt-get install chromium chromium-driver", pytrace=False)
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        binary, *FLAGS, f"--user-data-dir={folder}", "about:blank", stdout=quiet, stderr=quiet
    )
    try:
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{await _port(folder)}/json/list") as answer:
                pages = [one for one in await answer.json(content_type=None) if one["type"] == "page"]
            async with session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                page = Page(socket)
                listening = asyncio.create_task(page.listen())
                for domain in ("Page", "Runtime", "Network", "Log"):
                    await page.call(f"{domain}.enable")
                await page.resize(width, height)
                yield page
                with suppress(AssertionError, TimeoutError):
                    await page.call("Browser.close")
            await listening
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _port(folder: Path) -> int:
    """Port of the browser's DevTools, once it listens."""
    port_file = folder / "DevToolsActivePort"
    async with asyncio.timeout(START_S):
        while not (port_file.is_file() and "\n" in port_file.read_text()):
            await asyncio.sleep(0.05)
    return int(port_file.read_text().splitlines()[0])
