"""GPTQ folders: linear layers in whole numbers of few bits with a scale per group, as transformers and vLLM load them."""
