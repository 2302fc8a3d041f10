"""The commands of `loadgen`, one file each."""
