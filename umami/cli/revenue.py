"""`umami revenue`: sends an event with an amount of money."""

import argparse
from decimal import Decimal, InvalidOperation
from typing import Final

from ._sending import EVENT_OPTIONS, add_event, data_of, send

NAME: Final = "revenue"
SUMMARY: Final = "send an event with an amount of money"
USAGE: Final = "umami revenue AMOUNT [CURRENCY] [--name NAME] [--data KEY=TEXT ...] [options]"
DESCRIPTION: Final = "Sends an event with an amount of money, which Umami adds to the website's revenue."
EXAMPLES: Final = """\
umami revenue 19.99
umami revenue 19.99 EUR --name checkout --url https://shop.example/checkout
umami revenue 5 GBP --data order=A-1001 --time 2026-03-01T12:30
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("amount", metavar="AMOUNT", type=_amount, help="the amount, not negative")
    parser.add_argument(
        "currency", metavar="CURRENCY", nargs="?", default="USD", help="its ISO 4217 code (default: USD)"
    )
    parser.add_argument("--name", default="revenue", help="the event's name (default: %(default)s)")
    add_event(parser)


def run(arguments: argparse.Namespace) -> int:
    """Sends the event."""
    from umami import Client

    return send(
        arguments,
        f"revenue of {arguments.amount} {arguments.currency}",
        Client.new_revenue_event,
        *EVENT_OPTIONS,
        revenue=arguments.amount,
        currency=arguments.currency,
        event_name=arguments.name,
        custom_data=data_of(arguments),
    )


def _amount(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise argparse.ArgumentTypeError(f"{text!r} is not an amount, such as 19.99") from None
