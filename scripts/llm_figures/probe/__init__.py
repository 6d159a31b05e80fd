"""Linear probes that detect a wrong answer: hidden states, fits, scores, the figure."""
