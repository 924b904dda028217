"""`umami page-view`: sends a page view."""

import argparse
from typing import Final

from ._sending import add_common, add_visitor, send

NAME: Final = "page-view"
SUMMARY: Final = "send a page view"
USAGE: Final = "umami page-view URL [--title TITLE] [options]"
DESCRIPTION: Final = "Sends a page view, and says what the server answered."
EXAMPLES: Final = """\
umami page-view https://example.com/pricing --title Pricing
umami page-view /pricing --hostname example.com --referrer https://news.example
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("url", metavar="URL", help="the page's URL or path")
    parser.add_argument("--title", help="the page's title (default: its URL)")
    add_visitor(parser)
    add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Sends the page view."""
    from umami import Client

    return send(
        arguments,
        f"page view of {arguments.url}",
        Client.new_page_view,
        *("url", "referrer", "language", "screen", "distinct_id", "tag"),
        page_title=arguments.url if arguments.title is None else arguments.title,
    )
