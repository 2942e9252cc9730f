"""One module per command: its options, one request, and what it prints."""
