"""Make the README's picture of a report: `python docs/make_images.py runs/demo/report/index.html`.

It needs Chromium or Chrome on PATH, and no network.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-component-update",
    "--disable-background-networking", "--disable-sync", "--hide-scrollbars", "--virtual-time-budget=10000",
)  # fmt: skip


def screenshot(browser: str, report: Path, out: Path, width: int, height: int) -> None:
    """Write the top `height` pixels of the page, `width` pixels wide, to `out`."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as profile:
        command = [
            browser, *_QUIET, f"--user-data-dir={profile}", f"--window-size={width},{height}",
            f"--screenshot={out.resolve()}", report.resolve().as_uri(),
        ]  # fmt: skip
        subprocess.run(command, check=True, timeout=120, capture_output=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path, help="index.html of a run's report")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "images" / "report.png")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=1180)
    given = parser.parse_args()
    browser = next((found for name in _BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        print(f"no browser found; one of these must be on PATH: {', '.join(_BROWSERS)}", file=sys.stderr)
        return 1
    if not given.report.is_file():
        print(f"{given.report}: no such file; grow a run first", file=sys.stderr)
        return 1
    screenshot(browser, given.report, given.out, given.width, given.height)
    print(f"{given.out}: {given.out.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
