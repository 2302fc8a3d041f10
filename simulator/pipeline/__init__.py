"""A target split over a pipeline of machines, on virtual time: methods that keep it busy with few users."""
