"""The agent in memory: events in, batches out, and an account of every event.

It knows bytes, batches and time, and two protocols: `exporter.Exporter` delivers batches, `store.Store` keeps
events on disk. Read it in the order of an event's way: `inbox`, `bounded_queue`, `destination_queue`, `queue`,
`senders`, `ledger`; then what happens in trouble: `backoff`, `retry`; and around all of it: `agent`, `process`,
`reporter`.
"""
