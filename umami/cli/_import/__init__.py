"""Imports the requests in web servers' logs as page views."""
