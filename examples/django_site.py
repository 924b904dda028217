"""A small Django shop in one file, with page views, events and the browser's script.

Run it with `python examples/django_site.py runserver`, `gunicorn examples.django_site:application`, or
`uvicorn examples.django_site:asgi_application`. Set UMAMI_URL, UMAMI_WEBSITE_ID and UMAMI_HOSTNAME to say
where the events go.
"""

import sys

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.template import engines
from django.urls import path

import umami
from umami.integrations.django import track

settings.configure(
    SECRET_KEY="only for this example",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["umami.integrations.django"],
    MIDDLEWARE=["umami.integrations.django.UmamiMiddleware"],
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
    # Pages whose HTML has the script are counted by it, not by the middleware.
    UMAMI={"ROUTES": "template", "EXCLUDE": ["/with-script"], "FLUSH_ON_SIGTERM": True},
)
django.setup()


def item(_: HttpRequest, number: int) -> HttpResponse:
    """Show an item."""
    return HttpResponse(f"<h1>Item {number}</h1>")


@track("add to cart", data={"plan": "pro"})
async def add(_: HttpRequest) -> HttpResponse:
    """Put something into the cart."""
    return HttpResponse("added")


def buy(_: HttpRequest) -> HttpResponse:
    """Sell something."""
    umami.new_revenue_event(19.99, "EUR", event_name="purchase")  # knows the visitor and the page
    return HttpResponse("Thank you")


def with_script(request: HttpRequest) -> HttpResponse:
    """Show a page that is counted in the browser."""
    template = engines["django"].from_string("{% load umami %}<head>{% umami_tracker %}</head>")
    return HttpResponse(template.render(request=request))


urlpatterns = [
    path("items/<int:number>", item, name="item"),
    path("add", add),
    path("buy", buy),
    path("with-script", with_script),
]

application = get_wsgi_application()
asgi_application = get_asgi_application()

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
