"""What answers elsewhere: an OpenAI-compatible server that runs already, and a vLLM server that is started here."""
