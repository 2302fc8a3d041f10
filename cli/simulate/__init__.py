"""`outrider simulate`: scenarios on virtual time."""
