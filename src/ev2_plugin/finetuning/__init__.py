"""From structures with labels and a trained model to a tuned one."""
