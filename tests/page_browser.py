"""A report page that is open in a real browser."""

import os
import shutil
from pathlib import Path
from typing import Any

SWITCHES = (
    "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run", "--disable-quic",
)  # fmt: skip
DRAWN = ("#precision-recall svg path.line", "figure.graph svg")
"""What is there once the page of a run is drawn."""
DRAW_ALL = """() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(
  () => resolve(dispatchEvent(new Event("beforeprint"))))))"""
"""Two frames, until widths are known, and what a browser says before it prints."""
NAMES = ("chromium", "chromium-browser", "google-chrome")
CONTRASTS = """() => {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const known = new Map();
  const channels = (text) => {
    if (!known.has(text)) known.set(text, painted(text));
    return known.get(text);
  };
  const painted = (text) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = text;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const colour = getComputedStyle(one).backgroundColor;
      if (channels(colour)[3] === 255) return colour;
    }
    return 'white';
  };
  const seen = new Map();
  for (const element of document.querySelectorAll('main *, nav *')) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || element.closest('svg, [aria-hidden], :disabled, option')) continue;
    const pair = getComputedStyle(element).color + ' on ' + ground(element);
    if (!seen.has(pair)) {
      const [a, b] = pair.split(' on ').map((one) => light(channels(one))).sort((x, y) => y - x);
      seen.set(pair, (a + 0.05) / (b + 0.05));
    }
  }
  return [...seen].filter(([, contrast]) => contrast < 4.5).map(([pair]) => pair);
}"""
"""Pairs of text and ground whose contrast is below what WCAG's level AA wants."""


def installed() -> str | None:
    """Return the browser of this machine, or None where it has none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def switches() -> list[str]:
    # Chromium's own sandbox does not work for root.
    return [*SWITCHES, *(("--no-sandbox",) if os.geteuid() == 0 else ())]


class Visit:
    """A page that is open, with what it said and asked for."""

    def __init__(
        self, browser: Any, run: Path, *, drawn: tuple[str, ...] = DRAWN, **settings: Any
    ) -> None:
        self.context = browser.new_context(**settings)
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto((run / "report.html").as_uri())
        self.draw_all(drawn)

    def draw_all(self, drawn: tuple[str, ...] = DRAWN) -> None:
        """Have everything drawn that waits until it comes near the screen."""
        self.page.evaluate(DRAW_ALL)
        for selector in drawn:
            self.page.wait_for_selector(selector)

    def texts(self, selector: str) -> list[str]:
        return [str(text) for text in self.page.locator(selector).all_text_contents()]

    def first_column(self) -> list[str]:
        return self.texts("#label-table tbody th")
