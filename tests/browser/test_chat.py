"""A real browser chats through Sluice, as the newcomer of `make demo` does."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from demo import EXAMPLE, backends, make_certificate, sluice, write_endpoints, write_secret
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import WebDriverWait

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

WAIT = 20


@pytest.fixture
def page(tmp_path: Path) -> Iterator[str]:
    """The chat of the example behind Sluice; the URL of its page."""
    folder = tmp_path / "chat"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("generated"))
    free = ["--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--drain-time", "1s"]
    with backends() as ports:
        write_secret(folder, *make_certificate())
        write_endpoints(folder, ports)
        with sluice(folder, free) as (_, listening):
            yield "https://chat.localhost:" + listening["https"].rsplit(":", 1)[1]


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[WebDriver]:
    """Debian's Chromium, headless."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "/usr/bin/chromium"
    options.accept_insecure_certs = True
    for flag in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={tmp_path / 'profile'}",
    ):
        options.add_argument(flag)
    driver = webdriver.Chrome(
        options=options, service=webdriver.ChromeService(shutil.which("chromedriver") or "/usr/bin/chromedriver")
    )
    driver.set_page_load_timeout(WAIT)
    yield driver
    driver.quit()


def test_chat_in_a_browser_goes_over_a_websocket_and_comes_back(page: str, browser: WebDriver) -> None:
    browser.get(f"{page}/?replica=1")
    wait = WebDriverWait(browser, WAIT)
    wait.until(lambda b: b.find_element(By.ID, "transport").text == "websocket")
    assert browser.find_element(By.ID, "state").text == "connected"
    assert browser.find_element(By.ID, "replica").text == "1"

    browser.find_element(By.ID, "text").send_keys("hello from a browser\n")

    wait.until(lambda b: "hello from a browser (from replica 1)" in b.find_element(By.ID, "log").text)


def test_two_windows_at_two_replicas_hear_each_other(page: str, browser: WebDriver) -> None:
    wait = WebDriverWait(browser, WAIT)
    windows = []
    for replica in "01":
        if windows:
            browser.switch_to.new_window("tab")
        browser.get(f"{page}/?replica={replica}")
        wait.until(lambda b, wanted=replica: b.find_element(By.ID, "replica").text == wanted)
        windows.append(browser.current_window_handle)

    browser.find_element(By.ID, "text").send_keys("across\n")
    browser.switch_to.window(windows[0])

    wait.until(lambda b: "across (from replica 1)" in b.find_element(By.ID, "log").text)
