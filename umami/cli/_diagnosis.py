"""What the answers to a few harmless requests show about a server, or about what stands in front of it."""

from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    import httpx

    from umami import Client

_DATED: Final = "it dates events at their arrival and ignores distinct_id: upgrade to 2.17 or later"

SUPPORTED: Final = ("ok", "supported")


class Diagnosis(NamedTuple):
    """What is wrong, and with which part: `TLS`, `connection` or `server`. Without a text, nothing is."""

    check: str
    text: str


def of_heartbeat(client: "Client", *, cloud: bool) -> "tuple[str, Diagnosis, httpx.Response | None]":
    """Asks for the heartbeat; returns what came, what is wrong with it, and the answer."""
    import httpx

    path = "/me" if cloud else "/heartbeat"
    try:
        response = client.request("GET", path, raw=True)
    except httpx.HTTPStatusError as error:
        return "", Diagnosis("server", _of_status(error, cloud=cloud)), error.response
    except httpx.TransportError as error:
        return "", _of_transport(error), None
    if isinstance(_json(response), dict):
        return "it answers as Umami does", Diagnosis("", ""), response
    page = "an HTML page" if response.text.lstrip()[:1] == "<" else "something else"
    return (
        "",
        Diagnosis(
            "server",
            f"{response.request.url} answered {response.status_code} with {page}, not "
            "with Umami's heartbeat: another website or a proxy's login page is at this URL. Check "
            "UMAMI_URL, or let the proxy pass /api",
        ),
        response,
    )


def _of_status(error: "httpx.HTTPStatusError", *, cloud: bool) -> str:
    status = error.response.status_code
    if cloud and status in (401, 403):
        todo = "the API key is not accepted: check UMAMI_API_KEY and UMAMI_REGION"
    elif status in (404, 405):
        todo = (
            "there is no Umami at this URL. Check UMAMI_URL: it has the path that Umami is served under, if "
            "any, but no /api; and a proxy must pass /api on"
        )
    elif status == 407:
        todo = "the proxy wants a user and a password: put both into the URL in UMAMI_PROXY or HTTP_PROXY"
    elif status in (401, 403):
        todo = (
            "a proxy or a firewall in front of Umami refuses this machine. Let it pass /api, or give it what "
            "it wants: UMAMI_HEADERS, UMAMI_CERT, or a user and a password in UMAMI_URL"
        )
    elif status == 429:
        todo = "a proxy in front of Umami limits the rate of requests: try again later"
    elif status >= 500:
        todo = "Umami is down, or is starting. Look at its log, and at that of the proxy in front of it"
    else:
        todo = "it is not Umami that answers: check UMAMI_URL"
    return f"{error}: {todo}"


def _of_transport(error: "httpx.TransportError") -> Diagnosis:
    import httpx

    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        todo = "set UMAMI_VERIFY to the file of your certificate authority, or renew the server's certificate"
        return Diagnosis("TLS", f"{text}: {todo}")
    if "SSL" in text or "TLS" in text:
        return Diagnosis(
            "TLS", f"{text}: does this port speak https, or should UMAMI_URL begin with http://?"
        )
    if isinstance(error, httpx.ProxyError) or (
        isinstance(error, httpx.ConnectError) and "through the proxy" in text
    ):
        return Diagnosis("connection", f"{text}: check UMAMI_PROXY, HTTP_PROXY and HTTPS_PROXY")
    if isinstance(error, httpx.TimeoutException):
        return Diagnosis("connection", f"{text}: is a firewall on the way? --timeout waits longer")
    return Diagnosis(
        "connection", f"{text}: is the server running, and are host and port of UMAMI_URL right?"
    )


def of_server(client: "Client", heartbeat: Any) -> tuple[tuple[str, str], tuple[str, str]]:
    """Asks for an empty batch; returns result and text for the server's version, and for its batches."""
    import httpx

    try:
        answer = _json(client.request("POST", "/batch", json=[], raw=True))
    except httpx.HTTPStatusError as error:
        return _without_batches(client, heartbeat, error.response.status_code)
    except httpx.TransportError as error:
        return ("note", "not known"), ("note", f"{error}: events are sent one by one")
    if not isinstance(answer, dict) or "processed" not in answer:
        return ("note", "not known"), (
            "note",
            "/api/batch does not answer as Umami does: let the proxy pass it",
        )
    if "cache" in answer:
        return ("ok", "Umami 3.0.2 or later: it stores all that the client sends"), SUPPORTED
    browser = "it reads browser, os and device from the User-Agent only"
    return ("ok", f"Umami 2.17 to 3.0.1: {browser}"), SUPPORTED


def _without_batches(
    client: "Client", heartbeat: Any, status: int
) -> tuple[tuple[str, str], tuple[str, str]]:
    one_by_one = "so events are sent one by one"
    if status not in (404, 405):
        broken = f"/api/batch answered {status}, {one_by_one}: Umami 2.17 to 3.0.1 needs Node.js 18 to 22"
        return ("ok", "Umami 2.17 or later"), ("note", broken)
    none = ("ok", f"Umami before 2.17 has none, {one_by_one}")
    if _json(heartbeat) != {"ok": True}:
        return ("note", f"Umami before 2.16: {_DATED}"), none
    if (version := _version(client)) is not None:
        return ("note", f"Umami {version}: {_DATED}"), none
    blocked = f"/api/batch answered {status}, {one_by_one}: let the proxy pass it"
    return ("ok", "Umami 2.16 or later"), ("note", blocked)


def _version(client: "Client") -> str | None:
    """Returns the version, which only Umami up to 2.16 tells."""
    import httpx

    try:
        answer = _json(client.request("GET", "/version", raw=True))
    except httpx.HTTPError:
        return None
    version = answer.get("version") if isinstance(answer, dict) else None
    return version if isinstance(version, str) else None


def _json(response: Any) -> Any:
    try:
        return response.json()
    except ValueError:
        return None
