"""A checkpoint of Hugging Face's format in INT8: accuracy, text, speed, memory."""
