"""Posts one event to `/api/send`, and reads the answer."""

from umami._user_agents import is_surely_browser
from umami.queue.exporter import Failure, Status

from . import verdicts
from .answers import is_token
from .delivery import Delivery
from .generations import Generation, adapted
from .messages import Reply


def post_one(delivery: Delivery, index: int) -> Failure | None:
    """Post one event of a batch; return the failure if the request fails as a whole."""
    url, learned = delivery.target.send_url, delivery.learned
    event, agent = adapted(delivery.events[index], learned.generation)
    reply = delivery.post(url, event, [index], agent)
    if isinstance(reply, Failure):
        return reply
    if 200 <= reply.status < 300:
        return _read(delivery, reply, index, agent)
    outcome = verdicts.of_send(reply.status, reply.body or b"", learned.generation)
    if outcome is None:
        return delivery.foreign(reply, url, [index])
    if outcome.status in (Status.RETRY, Status.UNCERTAIN):
        return delivery.database_away([outcome], url, [index])
    learned.accepted()
    delivery.outcomes[index] = outcome
    return None


def _read(delivery: Delivery, reply: Reply, index: int, agent: str | None) -> Failure | None:
    """Read a 2xx: its form tells the server's generation, and whether the event was dropped as a bot's."""
    text, learned = reply.body or b"", delivery.learned
    if is_token(text):
        learned.accepted(Generation.TEXT)
        return None
    answer = verdicts.decoded(text)
    is_bot = isinstance(answer, dict) and (
        "beep" in answer or (not answer and learned.generation is Generation.TEXT)
    )
    if is_bot:
        learned.accepted()
        delivery.outcomes[index] = verdicts.BOT
    elif isinstance(answer, dict) and "sessionId" in answer:
        learned.accepted(Generation.V2_17)
    elif isinstance(answer, dict) and "cache" in answer:
        learned.accepted(Generation.V2_16)
    else:
        # Umami before 2.12 answers `{}` to a bot's event, and a proxy may answer so to each.
        whole = answer == {} and (agent is None or is_surely_browser(agent))
        return delivery.unclear(reply, delivery.target.send_url, [index], whole=whole)
    if agent is not None and not is_surely_browser(agent):
        learned.note_agent(agent, is_bot=is_bot)
    return None
