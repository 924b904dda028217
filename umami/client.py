"""The client: what sends events and what makes queries, in one."""

from types import TracebackType
from typing import Any

from typing_extensions import Self

from ._event_client import EventClient
from ._query_client import QueryClient
from .settings import SettingsDict


class Client(EventClient, QueryClient):
    """Sends events to an Umami server or to Umami Cloud, and queries it.

    The functions of the module `umami` are the methods of one default client. Make more clients for more
    servers or websites. Threads and event loops can share a client, and it works after a fork. A `with`
    block, sync or async, ends with `shutdown()`.

    A copy or an unpickled client is a new client with the settings that were made in code, including API keys
    and passwords. It has no queued events and no login.

    Args:
        **settings: Any setting that `configure` takes.

    Raises:
        ValidationError: A setting is unknown or not valid.

    Example:
        ```python
        with umami.Client(url_base="https://umami.example.com", website_id=site, hostname=host) as client:
            client.new_event("signup")
        ```
    """

    def __copy__(self) -> "Client":
        return Client(**self._state.code)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Client":
        return self.__copy__()

    def __reduce__(self) -> tuple[Any, ...]:
        import pickle

        code = self._state.code
        for name, value in code.items():
            try:
                pickle.dumps(value)
            except Exception as error:
                raise TypeError(
                    f"A Client is pickled as its settings, and {name} cannot be pickled ({error}). Make a "
                    "Client in each process instead."
                ) from error
        return _with_settings, (code,)

    def __enter__(self) -> Self:
        self._state.will_flush()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()
        self._state.close()

    async def __aenter__(self) -> Self:
        self._state.will_flush()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.shutdown_async()
        await self._state.aclose()


def _with_settings(code: SettingsDict) -> Client:
    return Client(**code)
