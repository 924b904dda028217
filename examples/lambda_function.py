"""A handler for AWS Lambda, whose events are delivered before it returns.

Set UMAMI_URL, UMAMI_WEBSITE_ID and UMAMI_HOSTNAME to say where the events go.
"""

from typing import Any

import umami
from umami.integrations.serverless import flush_after


@flush_after(timeout=2)
def handler(event: dict[str, Any], context: object) -> dict[str, Any]:  # noqa: ARG001 - Lambda's signature
    """Answer a request of API Gateway or of a function URL."""
    http = event["requestContext"]["http"]
    with umami.visitor(ip_address=http["sourceIp"], ua=http["userAgent"], url=event["rawPath"]):
        umami.new_event("order received")
    return {"statusCode": 200, "body": "Thank you"}
