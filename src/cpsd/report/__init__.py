"""What a person sees of a run: tables and progress in the terminal, and the page."""
