"""The template tags: `{% load umami %}`."""
