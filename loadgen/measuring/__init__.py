"""What every benchmark repeats: interleaved arms, timings, confidence intervals, progress."""
