"""Write, read, validate, search, measure, balance and cut datasets in the published format."""
