"""Django 4.2 and later: middleware, settings, system checks, `@track`, and `{% umami_tracker %}`.

Example:
    ```python
    INSTALLED_APPS = [..., "umami.integrations.django"]
    MIDDLEWARE = ["umami.integrations.django.UmamiMiddleware", ...]
    UMAMI = {"URL": "https://umami.example.com", "WEBSITE_ID": "…", "HOSTNAME": "example.com"}
    ```
"""

from umami.integrations._request import Request, Response
from umami.integrations._web import should_track

from .middleware import UmamiMiddleware
from .tracking import track

__all__ = ["Request", "Response", "UmamiMiddleware", "should_track", "track"]
