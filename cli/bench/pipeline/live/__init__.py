"""`outrider bench pipeline --live`: the methods over processes, whose stages and drafter sleep instead of computing."""
