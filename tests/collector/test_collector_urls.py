"""The collector's URL parser, compared with Node.js 20."""

import pytest
from conftest import with_each
from hypothesis import given
from hypothesis import strategies as st

from umami.collector import urls


@with_each(
    ("text", "parts"),
    [
        ("", ("https", "example.com", "/dir/page", "", "")),
        ("?x=1 2", ("https", "example.com", "/dir/page", "x=1%202", "")),
        ("#h", ("https", "example.com", "/dir/page", "", "h")),
        ("a/b", ("https", "example.com", "/dir/a/b", "", "")),
        ("../x", ("https", "example.com", "/x", "", "")),
        ("/a/../b/./c", ("https", "example.com", "/b/c", "", "")),
        ("/a/%2e%2E/b", ("https", "example.com", "/b", "", "")),
        ("/a/..", ("https", "example.com", "/", "", "")),
        ("/é?q=é#é", ("https", "example.com", "/%C3%A9", "q=%C3%A9", "%C3%A9")),
        ('/a"<>`{}|^b', ("https", "example.com", "/a%22%3C%3E%60%7B%7D|^b", "", "")),
        ("/?a\"<>`{}|^'b", ("https", "example.com", "/", "a%22%3C%3E`{}|^%27b", "")),
        (" /a\tb\n ", ("https", "example.com", "/ab", "", "")),
        ("\\win\\path", ("https", "example.com", "/win/path", "", "")),
        ("//H.com/p?q", ("https", "h.com", "/p", "q", "")),
        ("///x", ("https", "x", "/", "", "")),
        ("http://user:pw@h:81/p", ("http", "h", "/p", "", "")),
        ("http:x", ("http", "x", "/", "", "")),
        ("https:x", ("https", "example.com", "/dir/x", "", "")),
        ("https:/x/y", ("https", "example.com", "/x/y", "", "")),
        ("http://1/x", ("http", "0.0.0.1", "/x", "", "")),
        ("http://0x7f.1/", ("http", "127.0.0.1", "/", "", "")),
        ("http://[::1]/x", ("http", "[::1]", "/x", "", "")),
        ("http://é.com/", ("http", "xn--9ca.com", "/", "", "")),
        ("http://a_b..c", ("http", "a_b..c", "/", "", "")),
        ("mailto:a@b?c", ("mailto", "", "a@b", "c", "")),
        ("foo://H/p q", ("foo", "H", "/p%20q", "", "")),
        ("file:///etc/x", ("file", "", "/etc/x", "", "")),
    ],
)
def test_urls_are_parsed_as_a_browser_does(text, parts):
    url = urls.parse(text, "https://example.com/dir/page")
    assert (url.scheme, url.hostname, url.path, url.query, url.fragment) == parts


@with_each(
    "text",
    [
        "http://",
        "http:",
        "//",
        "\\\\",
        "http://[",
        "http://[::g]/",
        "http://a b",
        "//a b",
        "http://a%20b",
        "http://%",
        "http://a<b",
        "http://a^b",
        "http://a:b",
        "http://a:99999",
        "http://256.1.1.1",
        "http://1.2.3.4.5",
        "http://09",
        "http://999999999999",
        "http://xn--",
        "ftp://",
        "foo://[",
        "foo://a b",
        "http://user@/",
        "http://\0",
    ],
)
def test_what_is_no_url_is_refused(text):
    with pytest.raises(urls.InvalidURLError):
        urls.parse(text, "https://example.com")


def test_a_relative_url_needs_a_base():
    with pytest.raises(urls.InvalidURLError):
        urls.parse("/path")


@pytest.mark.slow
@given(text=st.text())
def test_any_text_is_a_url_or_is_none(text):
    try:
        url = urls.parse(text, "https://example.com")
    except urls.InvalidURLError:
        return
    assert url.path.isascii() or url.scheme not in ("http", "https")
    assert (url.query + url.fragment).isascii()
