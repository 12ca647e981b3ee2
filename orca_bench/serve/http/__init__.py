"""Talking to models over HTTP: OpenAI's API, and the page beside it."""
