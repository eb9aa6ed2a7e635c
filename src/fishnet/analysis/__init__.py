"""Looking into networks: cost."""
