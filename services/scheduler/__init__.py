"""The scheduler: places sessions, forms verification batches and sets every user's draft length."""
