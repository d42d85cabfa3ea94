"""How generations are put on record: their ends and attempts, what they used, and what was asked."""
