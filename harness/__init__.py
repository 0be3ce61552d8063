"""Run an LLM server to saturation, measure tokens and watts, and compare with the predicted energy."""

__version__ = "0.1.0"
