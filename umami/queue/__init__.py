"""The agent below the sends: bytes in, batches out, and an account of every event.

It knows nothing of what an event says. `worker` runs the threads, `lifecycle` tells it of the end of the
process, `buffer` holds the events, `lane` cuts batches, `delivery` carries one to the server, `settling`
takes in what became of it, `retry` decides what is tried again and when, `ledger` counts, `report` tells
the user what went wrong; `spool` and its neighbours are the disk.
"""
