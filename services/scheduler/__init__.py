"""The scheduler: sessions' counters, timers and estimates; who is verified together and how far each user drafts."""
