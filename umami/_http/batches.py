"""Posts many events in one request to `/api/batch`, and reads the answer.

Where the route is missing or broken, the first event is posted alone, and its answer tells the two apart from
a server that is away.
"""

import logging
from collections.abc import Sequence
from typing import Final

from umami.queue.exporter import Failure, Outcome, Status, Trouble

from . import verdicts
from .delivery import Delivery
from .generations import Generation
from .learned import BATCH_AGAIN_SECONDS
from .messages import Reply, log
from .single import post_one

_AWAY: Final = frozenset((Status.RETRY, Status.UNCERTAIN))


def post_batch(delivery: Delivery, indexes: Sequence[int], agent: str | None) -> Failure | None:
    """Post some events of a batch in one request.

    Args:
        delivery: The batch.
        indexes: Which events.
        agent: None if their User-Agents are browsers'. Otherwise the one that they have in common, or blank
            if the server has taken each of theirs for a bot's before.

    Returns:
        The request that failed as a whole, if one did.
    """
    if agent is not None and not _tells_of_bots(delivery):
        return _post_each(delivery, indexes)
    if delivery.requests and delivery.must_stop:
        delivery.unsent.update(indexes)
        return None
    url, learned, events = delivery.target.batch_url or "", delivery.learned, delivery.events
    if len(indexes) < len(events):
        events = [events[index] for index in indexes]
    body = b"[%b]" % b",".join(events)
    reply = delivery.post(url, body, indexes)
    if isinstance(reply, Failure):
        return reply
    text = reply.body or b""
    if 200 <= reply.status < 300:
        learned.accepted_bytes(len(body))
        return _read(delivery, reply, indexes, agent)
    is_unexplained = reply.status == 500 and verdicts.is_server_error(text)
    if reply.status in (404, 405):
        if not learned.batch_works or len(indexes) == 1:
            return _post_first(delivery, reply, indexes)
    elif reply.status == 500 and (
        verdicts.is_broken_batch(text)
        or (is_unexplained and learned.generation < Generation.V3_0_2 and _is_broken(delivery))
    ):
        return _post_first(delivery, reply, indexes)
    outcome = verdicts.of_send(reply.status, text, learned.generation)
    if outcome is None:
        if reply.status == 413:
            learned.too_large(url, len(body), len(indexes))
        return delivery.foreign(reply, url, indexes)
    if outcome.status in _AWAY:
        return delivery.database_away([outcome], url, indexes)
    if len(indexes) > 1:  # one of them may be the cause
        return Failure(
            f"{url} answered {outcome.message}",
            indexes,
            Trouble.REFUSED,
            reason=outcome.reason,
            stored_perhaps=is_unexplained,  # those before the cause
            decisive=True,
        )
    if is_unexplained and delivery.at_most_once:  # another attempt would not be safe
        outcome = outcome._replace(status=Status.UNCERTAIN)
    learned.accepted()
    delivery.outcomes[indexes[0]] = outcome
    return None


def _post_each(delivery: Delivery, indexes: Sequence[int]) -> Failure | None:
    """Post events one by one, where a batch's answer would not tell which were dropped as bots'."""
    for position, index in enumerate(indexes):
        if delivery.requests and delivery.must_stop:
            delivery.unsent.update(indexes[position:])
            return None
        failure = post_one(delivery, index)
        if failure is not None:
            delivery.unsent.update(indexes[position + 1 :])
            return failure
    return None


def _read(delivery: Delivery, reply: Reply, indexes: Sequence[int], agent: str | None) -> Failure | None:
    """Read a 2xx, which names the events that were not stored."""
    url, learned = delivery.target.batch_url or "", delivery.learned
    answer = verdicts.decoded(reply.body or b"")
    details = answer.get("details") if isinstance(answer, dict) else None
    if (
        not isinstance(details, list)
        or answer.get("size") != len(indexes)
        or answer.get("errors") != len(details)
    ):
        return delivery.unclear(reply, url, indexes)
    outcomes: dict[int, Outcome] = {}
    for detail in details:
        position = detail.get("index") if isinstance(detail, dict) else None
        if isinstance(position, int) and 0 <= position < len(indexes):
            outcomes[indexes[position]] = verdicts.of_item(detail.get("response"))
    if len(outcomes) == len(indexes) and all(outcome.status in _AWAY for outcome in outcomes.values()):
        return delivery.database_away([outcomes[index] for index in indexes], url, indexes)
    if learned.fell_back:
        learned.fell_back = False
        log(logging.WARNING, "%s works again: events go there in batches.", url)
    learned.batch_works = True
    learned.accepted(Generation.V3_0_2 if "cache" in answer else Generation.V2_17)
    kept = [index for index in indexes if index not in outcomes] if outcomes else indexes
    # With an agent, the server was known to tell when the request began. Another thread's failure may have
    # had that forgotten.
    if kept and "cache" not in answer and (agent is not None or _tells_of_bots(delivery)):
        # The key is there whenever an item was stored.
        outcomes.update(dict.fromkeys(kept, verdicts.BOT))
        if agent:
            learned.note_agent(agent, is_bot=True)
    elif kept and agent is not None:
        if agent:
            learned.note_agent(agent, is_bot=False)
        else:
            learned.forget_agents()  # the server has come to another opinion of one of them
    delivery.outcomes.update(outcomes)
    return None


def _tells_of_bots(delivery: Delivery) -> bool:
    """Tell whether the answer to a batch shows that all its events were dropped as bots'; ask if need be.

    Where one request is all that may be made now, it is left to an event.
    """
    learned = delivery.learned
    if not learned.asked_about_bots and learned.generation < Generation.V3_0_2 and not delivery.must_stop:
        reply = delivery.post(delivery.target.batch_url or "", b"[]", [])
        answer = verdicts.decoded(reply.body or b"") if isinstance(reply, Reply) else None
        if isinstance(answer, dict) and answer.get("size") == 0:
            learned.asked_about_bots = True
            learned.learn(Generation.V3_0_2 if "cache" in answer else Generation.V2_17)
    return learned.generation >= Generation.V3_0_2


def _is_broken(delivery: Delivery) -> bool:
    """Tell whether the route answers 500 to every batch and stores none, as Umami 3.0.1 does on Node.js 24.

    Else the 500 may have come after some of the events were stored. A batch of one item that no Umami takes
    tells the two apart: a route that works refuses the item.
    """
    reply = delivery.post(delivery.target.batch_url or "", b"[{}]", [])
    if isinstance(reply, Reply):
        if reply.status in (200, 400):
            return False
        if reply.status == 500 and verdicts.is_server_error(reply.body or b""):
            return True
    # It is not known. To send the events one by one costs duplicates at worst.
    return not delivery.at_most_once


def _post_first(delivery: Delivery, reply: Reply, indexes: Sequence[int]) -> Failure | None:
    """Post the first of a batch's events alone: the answer tells whether only the batch route fails.

    Args:
        delivery: The batch.
        reply: The batch route's answer.
        indexes: The events that it refused.
    """
    first, *others = indexes
    target, learned = delivery.target, delivery.learned
    delivery.unsent.update(others)
    was_away = learned.in_trouble
    learned.pause_batches()
    if delivery.must_stop:
        delivery.unsent.add(first)
        return None  # the answer to the next request decides
    failure = post_one(delivery, first)
    if failure is None and was_away and reply.status in (404, 405):
        # The server may have come back between the two answers.
        again = delivery.post(target.batch_url or "", b"[]", [])
        if isinstance(again, Failure) or again.status not in (404, 405):
            learned.resume_batches()
            return None
    if failure is not None and failure.trouble is not Trouble.THROTTLED:
        learned.resume_batches()
    if failure is None:
        if not learned.fell_back:
            learned.fell_back = True
            log(
                logging.WARNING,
                "%s answered %d: the server has no working batch route. Events are sent one by one to %s. "
                "The batch route is tried again every %d minutes.",
                target.batch_url,
                reply.status,
                target.send_url,
                BATCH_AGAIN_SECONDS // 60,
            )
    elif reply.status == 404 and failure.reason == "404" and _is_too_old(delivery):
        failure = post_one(delivery, first)  # a server that restarts may have come up between the two
        if failure is None or failure.reason != "404":
            return failure
        delivery.unsent.difference_update(others)
        message = (
            f"{target.send_url} answered 404: this Umami is older than 2.0, and the client cannot send "
            "events to it. Upgrade the server."
        )
        delivery.outcomes.update(dict.fromkeys(indexes, Outcome(Status.REJECTED, "too_old", message)))
        return None
    return failure


def _is_too_old(delivery: Delivery) -> bool:
    """Tell an Umami that has no route for events from a proxy that has no server behind it, or blocks a body.

    An Umami with the route answers a GET of it with another status than 404.
    """
    route = delivery.target.send_url
    reply = delivery.post(route, b"", [], method="GET")
    if not isinstance(reply, Reply) or reply.status != 404:
        return False
    reply = delivery.post(f"{route.removesuffix('/send')}/heartbeat", b"", [], method="GET")
    return (
        isinstance(reply, Reply)
        and reply.status == 200
        and verdicts.decoded(reply.body or b"") in ({}, {"ok": True})
    )
