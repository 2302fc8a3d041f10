"""Cohorts on devices of one radio cell, live: how long the last answer takes by how the band is shared."""
