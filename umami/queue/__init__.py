"""The agent in memory: events in, batches out, and an account of every event.

It knows bytes, batches and time, and two protocols: `exporter.Exporter` delivers batches, and `store.Store`
keeps events on disk. To follow an event, read `inbox`, `bounded_queue`, `destination_queue`, `batches`,
`queue`, `workers` and `ledger`; for failures, `backoff` and `retry`. `agent` and `reporter` are around it.
"""
