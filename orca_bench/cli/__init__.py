"""The command line: one file per command; each parses the options, calls the work and prints."""
