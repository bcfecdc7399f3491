"""A real browser chats through Sluice, as the newcomer of `make demo` does."""

import re
import shutil
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from demo import EXAMPLE, backends, make_certificate, sluice, write_endpoints, write_secret, write_whole
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import WebDriverWait

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

WAIT = 20


@dataclass(frozen=True)
class Served:
    """The chat of the example behind Sluice, its second replica with a keepalive of a second."""

    page: str
    admin: str

    def pings(self) -> float:
        """How many pings of the proxy the browser answered."""
        with urllib.request.urlopen(f"http://{self.admin}/metrics", timeout=WAIT) as answer:
            text = answer.read().decode()
        found = re.findall(r'^sluice_ws_ping_rtt_seconds_count{route="wsroute/default/chat/replica-1"} (\S+)$', text, re.MULTILINE)
        return sum(map(float, found))


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    folder = tmp_path / "chat"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("generated"))
    route, second = folder / "route.yaml", "  - name: replica-1\n"
    assert second in route.read_text()
    write_whole(route, route.read_text().replace(second, second + "    keepalive: {interval: 1s, misses: 10}\n"))
    free = ["--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--drain-time", "1s"]
    with backends() as ports:
        write_secret(folder, *make_certificate())
        write_endpoints(folder, ports)
        with sluice(folder, free) as (_, listening):
            yield Served("https://chat.localhost:" + listening["https"].rsplit(":", 1)[1], listening["admin"])


@pytest.fixture
def page(served: Served) -> str:
    """The URL of its page."""
    return served.page


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


def test_browser_answers_pings_of_the_proxy_and_its_page_stays_connected(served: Served, browser: WebDriver) -> None:
    browser.get(f"{served.page}/?replica=1")
    wait = WebDriverWait(browser, WAIT)
    wait.until(lambda b: b.find_element(By.ID, "transport").text == "websocket")
    browser.execute_script("window.before = document.getElementById('log').textContent")

    wait.until(lambda _: served.pings() >= 4)

    assert browser.find_element(By.ID, "state").text == "connected"
    assert browser.execute_script("return document.getElementById('log').textContent === window.before")
    browser.find_element(By.ID, "text").send_keys("still here\n")
    wait.until(lambda b: "still here (from replica 1)" in b.find_element(By.ID, "log").text)
