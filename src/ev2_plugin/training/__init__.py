"""What training adds to a model: schedules, batch plans, Noisy Nodes, the search for non-finite values."""
