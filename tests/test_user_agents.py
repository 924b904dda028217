"""Detection of browsers: every common browser is recognized, and nothing that Umami drops."""

import itertools
import string
import subprocess
import sys

import pytest
from browsers import BROWSERS
from conftest import with_each
from crawleruseragents import CRAWLER_USER_AGENTS_DATA
from hypothesis import given, settings
from hypothesis import strategies as st
from is_bot import Bots

from umami._user_agents import BROWSER_USER_AGENT, is_bot, is_surely_browser

CRAWLERS = tuple({example for crawler in CRAWLER_USER_AGENTS_DATA for example in crawler["instances"]})
BOTS = Bots()
# fmt: off
BOT_TEXTS = (
    " Daum/", " deusu/", "news", "google", "bot", "bots_", "scan", "http", "24x7", "; x;", "@a.", "()",
    ".com", "a.ai", "bw/", "BW/1.0", "dlc", "DLC", "ort/", "ORT/", "perl", "time/", "|", ",", "crawl",
    "spider", "url", "URL", "-URL-", "BOT", "1BOT2", "(BOT)", "headless", "HeadlessChrome/142.0.0.0",
    "+http", "lighthouse", " Chrome-Lighthouse", "preview", "Google Web Preview", "/1.0;", "A/1.0;",
    "rss", "RSS", "java", "Java/17", "node", "PTST/240101", "compatible", "Mozilla/5.0", " Cypress/13",
    "phantomjs", "agent", "monitor", "; Googlebot/2.1; +http://www.google.com/bot.html", "Electron/1",
    "\u017fpider", "bo\u0442", "\n", "\x00", "1700000000000", "(at)x", "[at]x", "bit.ly/", "BIT.LY/",
    "www.a.com", "client", "cloud", "fetch", "server",
)
# fmt: on

PIECES = sorted(
    {piece for agent in BROWSERS for piece in agent.replace("(", " ").replace(")", " ").split()}
    | {"; ", " ", "/", ".", "-", "_", "1.0", "(5)", "(60)", "ABC", "AI", "BW", "ab", "24", "x", "7", ";", ","}
)
PRODUCTS = sorted({product for agent in BROWSERS for product in agent.partition(") ")[2].split()})


@with_each("user_agent", [BROWSER_USER_AGENT, *BROWSERS])
def test_common_browsers_surely_are(user_agent: str) -> None:
    assert is_surely_browser(user_agent)
    assert not BOTS.is_bot(user_agent)


@with_each(
    "user_agent",
    [
        "",
        " ",
        "Mozilla/5.0",
        "curl/8.5.0",
        "python-httpx/0.27",
        "umami-client/1.0 (python)",
        f" {BROWSER_USER_AGENT}",
        f"{BROWSER_USER_AGENT}\n",
        f"{BROWSER_USER_AGENT} Chrome-Lighthouse",
        BROWSER_USER_AGENT.replace("Chrome/", "HeadlessChrome/"),
        BROWSER_USER_AGENT.replace("Intel", "compatible; Googlebot/2.1; +http://www.google.com/bot.html"),
        f"{BROWSER_USER_AGENT} {'Chrome/1 ' * 100}Safari/1",
    ],
)
def test_what_is_not_surely_a_browser(user_agent: str) -> None:
    assert not is_surely_browser(user_agent)


def test_no_known_crawler_passes_as_a_browser() -> None:
    assert len(CRAWLERS) > 1500
    assert [agent for agent in CRAWLERS if is_surely_browser(agent) and BOTS.is_bot(agent)] == []


@pytest.mark.slow
def test_is_bot_agrees_with_the_package() -> None:
    everything = (*CRAWLERS, *BROWSERS, *BOT_TEXTS, *(f"{BROWSER_USER_AGENT} {text}" for text in BOT_TEXTS))
    ascii_only = [agent for agent in everything if agent.isascii()]
    assert [agent for agent in ascii_only if is_bot(agent) != BOTS.is_bot(agent)] == []


@pytest.mark.slow
def test_no_code_of_a_model_hides_a_bot() -> None:
    """Every one of up to three capitals, wherever a model's or a build's code may stand."""
    codes = ["".join(code) for n in (1, 2, 3) for code in itertools.product(string.ascii_uppercase, repeat=n)]
    for form in ("; {};", "1{}-2", ".{}.", "_{} Build/{}"):
        passing = [
            text
            for text in (form.replace("{}", code) for code in codes)
            if is_surely_browser(BROWSER_USER_AGENT.replace("Intel", text))
        ]
        assert len(passing) > 17_000
        for start in range(0, len(passing), 100):
            joined = BROWSER_USER_AGENT.replace("Intel", " ".join(passing[start : start + 100]))
            assert not is_bot(joined), BOTS.matches(joined)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_browser_changed_into_a_bot_does_not_pass(data: st.DataObject) -> None:
    agent = data.draw(st.sampled_from(BROWSERS))
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(agent)))
        end = data.draw(st.integers(start, min(len(agent), start + 12)))
        piece = data.draw(
            st.sampled_from(BOT_TEXTS)
            | st.sampled_from(sorted(CRAWLERS))
            | st.text(string.printable, max_size=8)
            | st.text(max_size=5)
        )
        agent = agent[:start] + piece + agent[end:]
    assert not (is_surely_browser(agent) and BOTS.is_bot(agent)), BOTS.matches(agent)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.data())
def test_what_browsers_are_made_of_makes_no_bot(data: st.DataObject) -> None:
    """Of browsers' own pieces in any order a quarter is accepted, which gives isbot its chance to object."""
    pieces = st.sampled_from(PIECES)
    comment = "".join(data.draw(st.lists(pieces, min_size=1, max_size=8)))
    products = " ".join(data.draw(st.lists(st.sampled_from(PRODUCTS), min_size=1, max_size=4)))
    agent = f"Mozilla/5.0 ({comment}) AppleWebKit/537.36 (KHTML, like Gecko) {products}"
    assert not (is_surely_browser(agent) and BOTS.is_bot(agent)), BOTS.matches(agent)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.text() | st.text(" ();/.,:-_@|+ab1", max_size=3000))
def test_any_text_is_judged(agent: str) -> None:
    assert not (is_surely_browser(agent) and is_bot(agent))


def test_an_empty_user_agent_is_no_bots() -> None:
    assert not is_bot("")


def test_is_bot_says_which_extra_it_needs() -> None:
    script = """
import sys
sys.modules["is_bot"] = None
from umami._user_agents import is_bot, is_surely_browser
is_surely_browser("curl/8.5.0")
try:
    is_bot("curl/8.5.0")
except ModuleNotFoundError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "Telling bots needs is_bot: pip install 'umami-analytics[bots]'\n"
