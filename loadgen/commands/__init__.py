"""The commands of `loadgen`, a file each: what is typed becomes what the rooms above run."""
