"""`outrider demo`: eight users, first with a draft model on this machine, then with emulated devices."""
