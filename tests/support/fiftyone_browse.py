"""Look at a running FiftyOne App in a real browser.

Arguments: the address, the browser's executable, and the PNG files to write for the grid and for
the opened sample. Prints the text that the App shows for each.
"""

from __future__ import annotations

import json
import sys

from playwright.sync_api import sync_playwright

address, chromium, grid, opened = sys.argv[1:]
with sync_playwright() as playwright:
    browser = playwright.chromium.launch(
        executable_path=chromium,
        args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
    )
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.goto(address)
    page.wait_for_selector('[data-cy="looker"]', timeout=120_000)
    page.keyboard.press("Escape")  # the greeting
    page.wait_for_timeout(4000)
    page.screenshot(path=grid)
    texts = [page.inner_text("body")]
    page.locator('[data-cy="looker"]').first.click()
    page.wait_for_selector('[data-cy="modal"]', timeout=120_000)
    page.wait_for_timeout(6000)
    page.screenshot(path=opened)
    texts.append(page.inner_text('[data-cy="modal"]'))
    browser.close()
print(json.dumps(texts))
