"""The agent below the sends: bytes in, batches out, and an account of every event.

It knows nothing of what an event says. `buffer` holds events and cuts batches, `worker` runs the
threads, `delivery` carries one batch to the server, `retry` decides what is tried again and when,
`ledger` counts, `report` tells the user what went wrong.
"""
