"""Radio cells: how the devices of a cell share its band. Pure: time is told, nothing waits."""
