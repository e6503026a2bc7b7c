"""Engines elsewhere: on another machine by ssh, or behind an API over HTTP."""
