"""Web frameworks: middleware that sends page views, and sets the visitor for all sends of a request."""
