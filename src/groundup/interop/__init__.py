"""Other people's formats: Hugging Face model folders."""
