"""Answers while they are computed: divided into portions, shared by processes, and cached on disk."""
