"""Who gets how much of a radio cell: closed forms, and the water-filling that they share."""
