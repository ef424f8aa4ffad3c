"""An OpenAI-compatible server: existing agents change a base URL and nothing else."""
