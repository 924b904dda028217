"""The app: it configures the client at startup, and registers the system checks."""

from django.apps import AppConfig
from django.core import checks
from django.core.exceptions import ImproperlyConfigured

import umami
from umami.errors import ValidationError
from umami.settings import resolve

from .checks import check
from .configuration import client_settings


class UmamiConfig(AppConfig):
    """Configures the client with the setting `UMAMI`."""

    name = "umami.integrations.django"
    label = "umami"
    verbose_name = "Umami"

    def ready(self) -> None:
        """Configure the client, and register the checks."""
        settings = client_settings()
        try:
            umami.configure(**settings)
            self.client_settings = resolve(settings)
        except ValidationError as error:
            raise ImproperlyConfigured(f"UMAMI: {error}") from None
        checks.register(check)
