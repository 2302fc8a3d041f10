"""Draft trees that are decided piece by piece: the core drafts, and the pieces fill the stages of a pipeline."""
