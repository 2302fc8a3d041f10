"""`outrider devices` and `outrider join`: credentials of remote devices, and a device that joins."""
