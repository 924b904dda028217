"""The request of a direct send."""

from typing import Any

from .answers import is_token
from .asking import asked
from .messages import Flow, Request, agent_header, json_of
from .server import Server


def send(server: Server, encoded: bytes, user_agent: str) -> Flow[dict[str, Any]]:
    """Post one event and return the server's answer, in the form of 2.16 where it is a bare token."""
    agent = agent_header(user_agent)  # the payload has it in full
    target = server.target
    headers = {**target.headers, "User-Agent": agent, "Content-Type": "application/json"}
    response = yield from asked(Request("POST", target.send_url, headers, content=encoded))
    answer: dict[str, Any] = (
        {"cache": response.text.strip()} if is_token(response.content) else json_of(response)
    )
    return answer
