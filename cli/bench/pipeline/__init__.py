"""`outrider bench pipeline`: methods of decoding over a target that is split over machines."""
