"""What gateways are deployed with, run as deploy/ configures it."""
