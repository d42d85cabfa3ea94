"""What a fleet needs: the cost of each piece of work in each part, and what many open streams add up to."""
