"""An hour of users, watched: nothing may grow."""
