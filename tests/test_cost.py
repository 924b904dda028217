"""Costs of visitors' values: at most linear in their length."""

import random
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

import umami
from umami.collector import javascript, urls

_random = random.Random(1)
_IDEOGRAPHS = "".join(map(chr, range(0x4E00, 0x9E00)))
_NOISE = "".join(_random.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=300_000))
SHAPES: dict[str, Callable[[int], str]] = {
    "one host of ideographs": lambda size: f"//{(_IDEOGRAPHS * (size // 20_000 + 1))[:size]}/",
    "one label of Punycode": lambda size: f"http://xn--{_NOISE[:size]}",
    "labels of Punycode": lambda size: "http://" + "xn--bcher-kva." * (size // 14),
    "labels of ideographs": lambda size: "http://" + "漢字語." * (size // 4),
    "from right to left": lambda size: "http://" + "אבגד." * (size // 5),
    "joiners": lambda size: "http://" + "ب" + "\u200c" * size + "ت",
    "marks": lambda size: "http://a" + "\u0301\u0316" * (size // 2),
    "a host at its limit": lambda size: "http://" + "漢字語日本漢字語日本漢字語." * 17 + "/" + "é" * size,
    "users": lambda size: "http://" + "a@" * (size // 2) + "^",
    "ports": lambda size: "http://" + "1:" * (size // 2),
    "brackets": lambda size: "http://[" + "1:" * (size // 2) + "]",
    "dots": lambda size: "http://" + "a." * (size // 2) + "^",
    "one word": lambda size: "a" * size + "^",
    "digits": lambda size: "1" * size + "x",
    "blanks": lambda size: " " * size + "x",
    "tabs": lambda size: "/\t" * (size // 2),
    "parameters": lambda size: "/?" + "utm_source=%75&" * (size // 15),
    "campaigns": lambda size: "/?" + f"utm_source={'%C3%A9' * 129}&" * (size // 786),
    "one campaign": lambda size: "/?utm_source=" + "%E6%BC%A2" * (size // 9),
    "escapes": lambda size: "%00%0" * (size // 5),
    "U+0000": lambda size: "\x00" * size,
    "lone surrogates": lambda size: "\ud800a" * (size // 2),
    "commas": lambda size: "a;," * (size // 3),
    "quotes": lambda size: '"\\' * (size // 2),
    "a date": lambda size: "2026-01-02T03:04:05." + "0" * size,
}
FIELDS = (
    *("url", "referrer", "title", "language", "screen", "ip_address", "ua", "distinct_id", "tag", "hostname"),
    *("event_name", "custom_data", "a key of custom_data"),
)


def cost(work: Callable[[], object]) -> float:
    """Return the least time of this thread that a call took, in seconds."""
    least = 9.0
    for _ in range(5):
        begun = time.thread_time()
        work()
        least = min(least, time.thread_time() - begun)
    return least


def is_linear(work: Callable[[int], object], size: int) -> bool:
    """Tell whether four times the size costs about four times as much; 0.1 ms are nothing."""
    for _ in range(5):  # the machine may be busy with something else for a while
        small, large = cost(lambda: work(size)), cost(lambda: work(4 * size))
        if large < 8 * max(small, 0.000_1):
            return True
    return False


@pytest.mark.slow
@pytest.mark.parametrize("size", [2_048, 65_536], ids=["up to the limit", "beyond it"])
@pytest.mark.parametrize("field", FIELDS)
def test_a_send_takes_linear_time_whatever_a_visitor_sends(
    make_client: Callable[..., umami.Client], field: str, size: int
) -> None:
    client = make_client(flush_interval=3600.0, batch_bytes=5_000_000, batch_size=500)
    for name, shape in SHAPES.items():
        texts = {length: shape(length) for length in (size, 4 * size)}

        def send(length: int, texts: dict[int, str] = texts) -> None:
            arguments: dict[str, Any] = {"event_name": "any", field: texts[length]}
            if field == "custom_data":
                arguments[field] = {"text": texts[length], "list": [texts[length]]}
            elif field == "a key of custom_data":
                arguments = {"event_name": "any", "custom_data": {texts[length]: {texts[length]: 1}}}
            with suppress(umami.errors.ValidationError):
                client.new_event(**arguments)

        assert is_linear(send, size), name


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_the_collector_reads_any_text_in_linear_time(name: str) -> None:
    texts = {length: SHAPES[name](length).encode(errors="replace").decode() for length in (16_384, 65_536)}

    def read(length: int) -> None:
        with suppress(urls.InvalidURLError):
            urls.parse.__wrapped__(texts[length], "https://example.com")
        javascript.to_number(texts[length])
        javascript.decode_uri(texts[length])

    assert is_linear(read, 16_384)
