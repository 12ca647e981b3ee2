"""GGUF files, the format of llama.cpp: a file in, a model folder out, with its tokenizer and the weights dequantised."""
