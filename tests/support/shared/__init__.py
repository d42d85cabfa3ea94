"""What tests share: the folder of a run, gateways, and logs over one Valkey."""
