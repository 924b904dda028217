"""The spool: queued events on disk, for those who ask for it. It implements `umami.queue.store.Store`."""
