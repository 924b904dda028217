"""Flask 3 and later: an extension with page views, visitors, and `umami_tracker()` in templates."""

from typing import Any

from flask import Flask, request
from flask import Response as FlaskResponse
from markupsafe import Markup

import umami
from umami.settings import resolve

from . import wsgi
from ._config import split
from ._request import Headers, Request, Response
from ._tracker import script
from ._web import should_track

__all__ = ["Request", "Response", "Umami", "should_track"]


class Umami:
    """Sends a page view for each page, and gives the sends of a request their visitor.

    The configuration is read from `app.config`: the client's settings and the middleware's options, with
    `UMAMI_` before their names, such as `UMAMI_URL` and `UMAMI_EXCLUDE`. What it does not set comes from the
    environment.

    Example:
        ```python
        app = Flask(__name__)
        app.config.update(UMAMI_URL="https://umami.example.com", UMAMI_WEBSITE_ID="…")
        Umami(app, exclude=["/admin/*"])
        ```
    """

    def __init__(
        self, app: Flask | None = None, *, client: "umami.Client | None" = None, **options: Any
    ) -> None:
        """Make the extension, and initialise an application with it.

        Args:
            app: The application; None to call `init_app` later.
            client: The client that sends; by default the module's functions. The configuration is applied to
                it.
            **options: The middleware's options, as `umami.integrations.wsgi.UmamiMiddleware` has them. They
                win over `app.config`.

        Raises:
            ValidationError: A name or a value is not valid.
        """
        self._client = client
        self._options = options
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Initialise an application.

        Args:
            app: The application, with its configuration.

        Raises:
            ValidationError: A name or a value is not valid.
        """
        config = {
            name.removeprefix("UMAMI_"): value
            for name, value in app.config.items()
            if name.startswith("UMAMI_")
        }
        settings, options = split(config)
        if settings:
            (umami if self._client is None else self._client).configure(**settings)
        resolved = resolve(settings)
        middleware = _Middleware(app.wsgi_app, client=self._client, **{**options, **self._options})
        app.wsgi_app = middleware  # type: ignore[method-assign]
        app.after_request(middleware.learn)
        app.extensions["umami"] = self

        def umami_tracker(**attributes: Any) -> Markup:
            return Markup(script(resolved, attributes))  # noqa: S704 - all values are escaped

        app.jinja_env.globals["umami_tracker"] = umami_tracker


class _Middleware(wsgi.UmamiMiddleware):
    def learn(self, response: FlaskResponse) -> FlaskResponse:
        """Note what Flask knows of a request, and only while it handles it: the route, and the user."""
        rule = request.url_rule
        if rule is not None:
            request.environ[wsgi.ROUTE] = (request.root_path + rule.rule, rule.endpoint)
        if "distinct_id" in self._functions:
            self._identify(request.environ[wsgi.REQUEST], response)
        return response

    def _identify(self, seen: Request, response: FlaskResponse) -> None:
        """Ask who the visitor is, if there will be a page view."""
        headers = Headers((name.lower(), value) for name, value in response.headers)
        try:
            if self._is_page_view(seen, Response(response.status_code, headers)):
                seen.known["distinct_id"] = self._answer("distinct_id", seen)
        except Exception as error:  # noqa: BLE001 - of a function of the user's
            self._failures.note(error)
