"""Web frameworks: middleware that sends page views, and gives the sends of a request their visitor."""
