"""Everything that speaks HTTP, and the only package that knows httpx."""
