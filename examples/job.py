"""A batch job that ends right after its last event. The queued events are delivered at exit.

Set UMAMI_URL, UMAMI_WEBSITE_ID and UMAMI_HOSTNAME to say where the events go.
"""

import atexit
import sys


def report() -> None:
    """Print the counts. Registered before umami is imported, so it runs after the exit flush."""
    print("LEDGER", umami.queue_stats().model_dump_json(), flush=True)


atexit.register(report)

import umami  # noqa: E402

for row in range(int(sys.argv[1])):
    umami.new_event("row-imported", url="/import", custom_data={"row": row, "file": "orders.csv"})
