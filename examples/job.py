"""A batch job that ends right after its last event: the exit delivers what is queued.

Where the events go is set in the environment: UMAMI_URL, UMAMI_WEBSITE_ID, UMAMI_HOSTNAME.
"""

import atexit
import sys


def report() -> None:
    """Say what became of the events. Registered before umami is imported, so it runs after the exit flush."""
    print("LEDGER", umami.queue_stats().model_dump_json(), flush=True)


atexit.register(report)

import umami  # noqa: E402

for row in range(int(sys.argv[1])):
    umami.new_event("row-imported", url="/import", custom_data={"row": row, "file": "orders.csv"})
