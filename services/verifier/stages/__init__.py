"""A target whose layers are split over several processes.

Rank 0 is the verifier: it has embedding, output head, page pool and all decisions. Ranks 1 .. N are *stages*: each
holds some of the layers with their part of the KV pool. Messages run around a ring, 0 → 1 → … → N → 0.
"""
