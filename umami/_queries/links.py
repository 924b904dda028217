"""Short links and pixels of an account."""

import secrets
import string
from typing import Any, Final

from umami._calls import both
from umami._events import fields
from umami._http.messages import Flow
from umami.errors import ValidationError
from umami.models import Link, Pixel, Table

from .changes import Changes, below, changes_of
from .describing import described
from .query import V3

_CHARACTERS: Final = string.ascii_letters + string.digits


class Links(Changes):
    """The links and pixels of a client. They need Umami 3.0 or later."""

    @described
    def _links(self) -> Flow[Table[Link]]:
        """Return the account's short links. This needs Umami 3.0 or later.

        Returns:
            A table of links.

        Example:
            ```python
            for row in umami.links():
                print(row.slug, row.url)
            ```
        """
        return (yield from self._listing("links()", Table[Link], "/links"))

    @described
    def _link(self, link_id: str) -> Flow[Link]:
        """Return a short link. This needs Umami 3.0 or later.

        Args:
            link_id: The link's id. It is also the website id of the link's figures.

        Returns:
            The link.

        Example:
            ```python
            print(umami.link(link_id).url)
            ```
        """
        return (yield from self._found("link", "/links", link_id, Link, since=V3))

    @described
    def _create_link(
        self, name: str, url: str, *, slug: str | None = None, team_id: str | None = None
    ) -> Flow[Link]:
        """Make a short link that Umami counts. This needs Umami 3.0 or later.

        Args:
            name: Its name, at most 100 characters.
            url: Where it leads, at most 500 characters.
            slug: The end of its address, 8 to 100 characters; by default a random one.
            team_id: The team that it belongs to; by default the account alone.

        Returns:
            The link. It is at `/q/` and its `slug`, and its `id` is the website id of its figures.

        Example:
            ```python
            link = umami.create_link("Autumn sale", "https://shop.example.com/sale")
            print(f"https://umami.example.com/q/{link.slug}")
            ```
        """
        body = {
            "name": fields.limited("name", name, 100),
            "url": fields.limited("url", url, 500),
            **_slug_and_team(slug, team_id),
        }
        return (yield from self._changed("create_link()", "POST", "/links", body, Link, since=V3))

    @described
    def _update_link(
        self, link_id: str, *, name: str | None = None, url: str | None = None, slug: str | None = None
    ) -> Flow[Link]:
        """Change a short link. This needs Umami 3.0 or later.

        Args:
            link_id: The link's id.
            name: The new name.
            url: Where it leads from now on.
            slug: The new end of its address.

        Returns:
            The link.

        Example:
            ```python
            umami.update_link(link.id, url="https://shop.example.com/winter")
            ```
        """
        body = changes_of(name=name, url=url, slug=None if slug is None else _checked_slug(slug))
        path = below("/links", "link_id", link_id)
        return (yield from self._changed("update_link()", "POST", path, body, Link, since=V3))

    @described
    def _delete_link(self, link_id: str, *, confirm: str) -> Flow[None]:
        """Delete a short link. This cannot be undone, and needs Umami 3.0 or later.

        Args:
            link_id: The link's id.
            confirm: The link's name, or its id if it has none, so that no other one is
                deleted by mistake.

        Example:
            ```python
            umami.delete_link(link.id, confirm="Autumn sale")
            ```
        """
        yield from self._deleted("link", "/links", link_id, confirm, Link, since=V3)

    @described
    def _pixels(self) -> Flow[Table[Pixel]]:
        """Return the account's pixels. This needs Umami 3.0 or later.

        Returns:
            A table of pixels.

        Example:
            ```python
            for row in umami.pixels():
                print(row.name, row.slug)
            ```
        """
        return (yield from self._listing("pixels()", Table[Pixel], "/pixels"))

    @described
    def _pixel(self, pixel_id: str) -> Flow[Pixel]:
        """Return a pixel. This needs Umami 3.0 or later.

        Args:
            pixel_id: The pixel's id. It is also the website id of the pixel's figures.

        Returns:
            The pixel.

        Example:
            ```python
            print(umami.pixel(pixel_id).slug)
            ```
        """
        return (yield from self._found("pixel", "/pixels", pixel_id, Pixel, since=V3))

    @described
    def _create_pixel(self, name: str, *, slug: str | None = None, team_id: str | None = None) -> Flow[Pixel]:
        """Make an image whose views Umami counts, such as in a mail. This needs Umami 3.0 or later.

        Args:
            name: Its name, at most 100 characters.
            slug: The end of its address, 8 to 100 characters; by default a random one.
            team_id: The team that it belongs to; by default the account alone.

        Returns:
            The pixel. It is at `/p/` and its `slug`, and its `id` is the website id of its figures.

        Example:
            ```python
            pixel = umami.create_pixel("Newsletter")
            print(f"https://umami.example.com/p/{pixel.slug}")
            ```
        """
        body = {"name": fields.limited("name", name, 100), **_slug_and_team(slug, team_id)}
        return (yield from self._changed("create_pixel()", "POST", "/pixels", body, Pixel, since=V3))

    @described
    def _update_pixel(
        self, pixel_id: str, *, name: str | None = None, slug: str | None = None
    ) -> Flow[Pixel]:
        """Change a pixel. This needs Umami 3.0 or later.

        Args:
            pixel_id: The pixel's id.
            name: The new name.
            slug: The new end of its address.

        Returns:
            The pixel.

        Example:
            ```python
            umami.update_pixel(pixel.id, name="Newsletter 2026")
            ```
        """
        body = changes_of(name=name, slug=None if slug is None else _checked_slug(slug))
        path = below("/pixels", "pixel_id", pixel_id)
        return (yield from self._changed("update_pixel()", "POST", path, body, Pixel, since=V3))

    @described
    def _delete_pixel(self, pixel_id: str, *, confirm: str) -> Flow[None]:
        """Delete a pixel. This cannot be undone, and needs Umami 3.0 or later.

        Args:
            pixel_id: The pixel's id.
            confirm: The pixel's name, or its id if it has none, so that no other one is
                deleted by mistake.

        Example:
            ```python
            umami.delete_pixel(pixel.id, confirm="Newsletter")
            ```
        """
        yield from self._deleted("pixel", "/pixels", pixel_id, confirm, Pixel, since=V3)

    # Each description's two functions.

    links, links_async = both(_links)
    link, link_async = both(_link)
    create_link, create_link_async = both(_create_link)
    update_link, update_link_async = both(_update_link)
    delete_link, delete_link_async = both(_delete_link)
    pixels, pixels_async = both(_pixels)
    pixel, pixel_async = both(_pixel)
    create_pixel, create_pixel_async = both(_create_pixel)
    update_pixel, update_pixel_async = both(_update_pixel)
    delete_pixel, delete_pixel_async = both(_delete_pixel)


def _slug_and_team(slug: str | None, team_id: str | None) -> dict[str, Any]:
    """Return these fields of a new thing. Umami requires a slug, and its own pages make a random one too."""
    made = "".join(secrets.choice(_CHARACTERS) for _ in range(9)) if slug is None else _checked_slug(slug)
    return {"slug": made} if team_id is None else {"slug": made, "teamId": fields.text("team_id", team_id)}


def _checked_slug(slug: str) -> str:
    if len(checked := fields.limited("slug", slug, 100)) < 8:
        raise ValidationError(f"slug must have at least 8 characters, got {len(checked)}.")
    return checked
