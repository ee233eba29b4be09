"""Take in what boxes send: grants, verification, the commit of a sample, receipts, and the sweep."""
