"""The collector's detection of bots, browsers and local addresses, compared with Umami 3.1.0."""

import pytest
from conftest import CHROME, with_each

from umami._user_agents import is_bot
from umami.collector import visitors

FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:127.0) Gecko/20100101 Firefox/127.0"
SAFARI = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7)"
    " AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Safari/605.1.15"
)
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X)"
    " AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1"
)
APPLE = "AppleWebKit/605.1.15 (KHTML, like Gecko)"
FACEBOOK_IPHONE = (
    f"Mozilla/5.0 (iPhone; CPU iPhone OS 17_6_1 like Mac OS X) {APPLE} Mobile/21G93"
    " [FBAN/FBIOS;FBAV/487.0.0.37.108;FBBV/651327111;FBDV/iPhone14,5;FBMD/iPhone;FBSN/iOS]"
)
FACEBOOK_ANDROID = (
    "Mozilla/5.0 (Linux; Android 14; Pixel 8 Build/UP1A.231005.007; wv) AppleWebKit/537.36"
    " (KHTML, like Gecko) Version/4.0 Chrome/128.0.6613.88 Mobile Safari/537.36"
    " [FB_IAB/FB4A;FBAV/479.0.0.57.87;]"
)
INSTAGRAM = (
    f"Mozilla/5.0 (iPhone; CPU iPhone OS 17_6_1 like Mac OS X) {APPLE} Mobile/21G93"
    " Instagram 344.0.0.28.98 (iPhone14,5; iOS 17_6_1; en_US; en; scale=3.00; 1170x2532; 627400398)"
)
PIXEL = (
    "Mozilla/5.0 (Linux; Android 14; Pixel 8)"
    " AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Mobile Safari/537.36"
)


@with_each(
    ("user_agent", "browser", "system", "device"),
    [
        (CHROME, "chrome", "Linux", "desktop"),
        (FIREFOX, "firefox", "Windows 10", "desktop"),
        (SAFARI, "safari", "Mac OS", "desktop"),
        (IPHONE, "ios", "iOS", "mobile"),
        (PIXEL, "chrome", "Android OS", "mobile"),
        (CHROME + " Edg/126.0.0.0", "edge-chromium", "Linux", "desktop"),
        (CHROME + " OPR/112.0.0.0", "opera", "Linux", "desktop"),
        (FACEBOOK_IPHONE, "facebook", "iOS", "mobile"),
        (FACEBOOK_ANDROID, "chromium-webview", "Android OS", "mobile"),
        (INSTAGRAM, "instagram", "iOS", "mobile"),
        (SAFARI.replace("Version/17.5", "CriOS/127.0 Mobile/15E148"), "crios", "Mac OS", "desktop"),
        (IPHONE.replace("iPhone; CPU iPhone OS", "iPad; CPU OS"), "ios", "iOS", "tablet"),
        (
            f"Mozilla/5.0 (PlayStation; PlayStation 5/6.50) {APPLE} Version/17.0 Safari/605.1.15",
            "safari",
            None,
            "console",
        ),
        (f"Mozilla/5.0 (Nintendo Switch; WebApplet) {APPLE} NF/6.0", None, None, "console"),
        (PIXEL.replace("Pixel 8", "SM-X700").replace(" Mobile", ""), "chrome", "Android OS", "tablet"),
        (PIXEL.replace("Pixel 8", "K").replace(" Mobile", ""), "chrome", "Android OS", "tablet"),
        (PIXEL.replace("Pixel 8", "AFTSS").replace(" Mobile", ""), "chrome", "Android OS", "smarttv"),
        (
            PIXEL.replace("Pixel 8", "BRAVIA 4K UR2 Build/1").replace(" Mobile", ""),
            "chrome",
            "Android OS",
            "smarttv",
        ),
        (PIXEL.replace("Chrome", "SamsungBrowser/26.0 Chrome"), "samsung", "Android OS", "mobile"),
        (
            "Mozilla/5.0 (Android 14; Mobile; rv:128.0) Gecko/128.0 Firefox/128.0",
            "firefox",
            "Android OS",
            "mobile",
        ),
        (
            "Mozilla/5.0 (Android 14; Tablet; rv:128.0) Gecko/128.0 Firefox/128.0",
            "firefox",
            "Android OS",
            "tablet",
        ),
        (
            "Mozilla/5.0 (Windows NT 6.1; WOW64; Trident/7.0; rv:11.0) like Gecko",
            "ie",
            "Windows 7",
            "desktop",
        ),
        ("umami-client/1.0 (python)", None, None, "desktop"),
    ],
)
def test_user_agents_name_browser_system_and_device(user_agent, browser, system, device):
    visitor = visitors.identify({}, {"user-agent": user_agent}, "127.0.0.1")
    assert (visitor.browser, visitor.os, visitor.device) == (browser, system, device)
    assert not is_bot(user_agent)


def test_a_user_agents_end_may_be_anywhere():
    """Umami looks at all of it; the collector at its beginning."""
    visitor = visitors.identify({"userAgent": CHROME + " x" * 50_000}, {}, "127.0.0.1")
    assert (visitor.browser, visitor.os, visitor.device) == ("chrome", "Linux", "desktop")


@pytest.mark.parametrize(
    ("screen", "device"), [("1920x1080", "laptop"), ("2560x1440", "desktop"), ("wide", "desktop")]
)
def test_a_small_screen_makes_a_laptop(screen, device):
    assert visitors.identify({"screen": screen}, {"user-agent": CHROME}, "").device == device


@with_each(
    "user_agent",
    [
        "a",
        "umami-client/1.0",
        "okhttp/4.12.0",
        "axios/1.6",
        "node",
        "PostmanRuntime/7.36",
        "Java/17.0.1",
        "HTTPie/3.2",
        "cubot",
        "facebookexternalhit/1.1",
        "Slackbot 1.0",
        "My Monitor 1.0",
        "my-python-app (contact@example.com)",
        "x" * 300,
    ],
)
def test_programs_are_bots(user_agent):
    assert is_bot(user_agent)


@with_each(
    "user_agent",
    [
        "Umami-Client v2.0.0 / Python 3.11.2 / Linux",
        "Company App (Linux; x64)",
        "Dart/3.0 (dart:io)",
        "MyApp/2.3 CFNetwork/1494 Darwin/23.4.0",
        "Mozilla/5.0 (Windows NT 10.0)",
        "Opera/9.80 (Windows NT 6.1) Presto/2.12.388",
    ],
)
def test_some_programs_pass(user_agent):
    assert not is_bot(user_agent)


@with_each(
    "ip",
    [
        "",
        "localhost",
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.0.1",
        "::1",
        "fe80::1",
        "::ffff:10.0.0.1",
    ],
)
def test_local_addresses(ip):
    assert visitors.is_local(ip)


@with_each(
    "ip",
    [
        "8.8.8.8",
        "2001:4860:4860::8888",
        "::ffff:8.8.8.8",
        "100.64.0.1",
        "192.0.2.1",
        "not an ip",
        "8.8.8.8:80",
    ],
)
def test_public_addresses(ip):
    assert not visitors.is_local(ip)
