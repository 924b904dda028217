"""Names of destinations: a spool's events go only to the exporter of the same name."""

import pytest

from umami._http.server import Server
from umami._http.target import named

SELF_HOSTED = Server("https://umami.example/stats")
CLOUD = Server(None, api_key="key")


@pytest.mark.parametrize("server", [SELF_HOSTED, CLOUD], ids=["self-hosted", "cloud"])
def test_a_target_follows_from_its_name(server: Server) -> None:
    assert named(server.target.name) == server.target


@pytest.mark.parametrize(
    ("server", "name"),
    [
        (SELF_HOSTED, "umami:https://umami.example/stats/api/send"),
        (Server("https://umami.example", token="t"), "umami:https://umami.example/api/send"),
        (Server("https://umami.example", "Basic c2VjcmV0"), "umami+basic:https://umami.example/api/send"),
        (CLOUD, "umami:https://cloud.umami.is/api/send"),
    ],
)
def test_a_name_tells_whether_a_proxy_wants_a_credential_and_not_which(server: Server, name: str) -> None:
    assert server.target.name == name


@pytest.mark.parametrize(
    "name",
    ["", "umami:", "umami:file:///etc/passwd", "memory", "umami+basic:https://umami.example/api/send"],
)
def test_a_name_without_a_target_of_ours_has_none(name: str) -> None:
    assert named(name) is None
