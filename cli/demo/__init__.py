"""`outrider demo`: eight users, first with drafts made on this machine, then with emulated devices elsewhere."""
